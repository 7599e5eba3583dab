"""Grouping by user keeps every event and the log's order of simultaneous ones."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from features.sequences import group_by_user, session_starts


def shuffled_users(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, 9, 100)],
            "item_id": np.arange(100),
            "timestamp": pl.Series(np.sort(rng.integers(0, 9, 100))).cast(pl.Datetime("us")),
            "event": rng.choice(["view", "buy"], 100),
            "session_id": [f"s{s}" for s in rng.integers(0, 9, 100)],
        }
    )


@pytest.mark.parametrize("grouped_on_disk", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_sequences_equal_lists_of_each_user(seed: int, grouped_on_disk: bool) -> None:
    log = shuffled_users(seed)
    if grouped_on_disk:
        log = log.sort("user_id", maintain_order=True)
    expected: dict[str, list[tuple]] = {}
    for user, item, time, event, session in log.rows():
        expected.setdefault(user, []).append((item, time, event, session))

    found = group_by_user(log, ("view", "buy"))

    assert found.users.to_pylist() == list(expected)  # by first appearance
    names = list(dict.fromkeys(log["session_id"]))
    for u, rows in enumerate(expected.values()):
        part = slice(found.offsets[u], found.offsets[u + 1])
        assert found.raw_items[part].to_pylist() == [item for item, *_ in rows]
        assert found.timestamps[part].tolist() == [
            round((time - datetime(1970, 1, 1)).total_seconds() * 1e6) for _, time, *_ in rows
        ]
        assert [("view", "buy")[c - 1] for c in found.events[part]] == [row[2] for row in rows]
        assert [names[s] for s in found.sessions[part]] == [row[3] for row in rows]


def test_a_pause_as_long_as_the_gap_does_not_end_a_session() -> None:
    times = [0, 10, 20, 31, 0, 5]
    log = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 2, 2],
            "item_id": [1] * 6,
            "timestamp": pl.Series(times).cast(pl.Datetime("us")),
            "event": ["view"] * 6,
        }
    )
    found = group_by_user(log, ("view",))
    assert len(found.sessions) == 0
    assert session_starts(found, 10).tolist() == [0, 3, 4]
