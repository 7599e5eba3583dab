"""Cleaning against loops over rows, on random logs with many repeats."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from features.cleaning import drop_duplicates, k_core_round, keep_behaviours, may_repeat
from features.config import Duplicates

Row = tuple[int, int, int, str]


def random_log(seed: int, *, users: int = 12, items: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    times = pl.Series(np.sort(rng.integers(0, 40, 200))).cast(pl.Datetime("us"))
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, users, 200) ** 2 // users,
            "item_id": rng.integers(0, items, 200) ** 2 // items,
            "timestamp": times,
            "event": rng.choice(["view", "buy"], 200, p=[0.8, 0.2]),
        }
    )


def kept_by_definition(rows: list[Row], policy: Duplicates) -> list[Row]:
    kept: list[Row] = []
    seen: set[tuple] = set()
    last: dict[int, tuple[int, str]] = {}
    for user, item, time, event in rows:
        key = {"exact": (user, item, time, event), "first": (user, item, event)}.get(policy)
        repeated = (
            last.get(user) == (item, event)
            if policy == "consecutive"
            else key is not None and key in seen
        )
        if key:
            seen.add(key)
        last[user] = (item, event)
        if not repeated:
            kept.append((user, item, time, event))
    return kept


@pytest.mark.parametrize("policy", ["keep", "exact", "consecutive", "first"])
@pytest.mark.parametrize("seed", range(3))
def test_duplicates_equal_a_loop_over_rows(seed: int, policy: Duplicates) -> None:
    log = random_log(seed)
    cleaned = drop_duplicates(log.lazy(), policy).collect()
    assert cleaned.rows() == kept_by_definition(log.rows(), policy)
    assert (len(cleaned) < len(log)) == (policy != "keep")


def test_each_round_equals_its_definition_and_the_last_leaves_a_core() -> None:
    log = random_log(0, users=40, items=40)
    sizes = [len(log) + 1]
    while len(log) < sizes[-1]:
        users, items = Counter(log["user_id"].to_list()), Counter(log["item_id"].to_list())
        expected = [row for row in log.rows() if users[row[0]] >= 5 and items[row[1]] >= 6]
        sizes.append(len(log))
        log = k_core_round(log.lazy(), min_user_events=5, min_item_events=6).collect()
        assert log.rows() == expected
    assert len(sizes) > 3  # one round was not enough
    assert min(Counter(log["user_id"].to_list()).values()) >= 5
    assert min(Counter(log["item_id"].to_list()).values()) >= 6


def test_only_the_named_behaviours_are_kept() -> None:
    log = random_log(0)
    assert keep_behaviours(log.lazy(), ()).collect().equals(log)
    bought = keep_behaviours(log.lazy(), ("buy",)).collect()
    assert bought.rows() == [row for row in log.rows() if row[3] == "buy"]


@pytest.mark.parametrize("seed", range(3))
def test_rows_without_a_repeat_are_known_from_their_hashes(seed: int) -> None:
    log = random_log(seed)
    assert may_repeat(log)
    assert not may_repeat(log.unique())
    assert may_repeat(pl.concat([log.unique(), log.head(1)]))
