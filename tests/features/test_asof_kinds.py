"""Ranking features of behaviours and of co-visits against their definitions in plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest

from features.asof import Facts, feature_names, ranking_features
from features.asof_behaviours import SMOOTHING
from features.covisits import (
    MAX_ITEMS,
    Covisits,
    count_pairs,
    refuse_too_many_items,
    write_covisits,
)
from features.encode import Histories
from features.errors import InputError
from features.question import HALF_LIFE
from features.timeline import DAY, ItemTimeline, write_timelines

NUM_ITEMS, REACH = 7, 2
LENGTHS = (0, 1, 5, 9, 14, 30)
KINDS = ("view", "cart", "buy")
START = 11_000 * DAY
NAMES = feature_names((), (), "all", Facts(KINDS, covisits=True))
Event = tuple[int, int, int]
"""Item, time, behaviour code."""


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def follow_ups(log: list[list[Event]], day: int) -> list[tuple[int, int]]:
    """All (a, b) where b came within REACH events after a, before the day."""
    return [
        (user[p - lag][0], user[p][0])
        for user in log
        for p in range(len(user))
        for lag in range(1, REACH + 1)
        if p >= lag and user[p - lag][0] != user[p][0] and user[p][1] // DAY < day
    ]


def by_definition(
    history: list[Event], at: int, item: int, log: list[list[Event]]
) -> dict[str, float]:
    every = [event for user in log for event in user]
    day = max(t // DAY for _, t, _ in every if t // DAY < at // DAY) + 1
    month = [e for e in every if day - 30 <= e[1] // DAY < day]
    pairs = follow_ups(log, day)

    def share(first: int) -> float | None:
        after = [b for a, b in pairs if a == first]
        return after.count(item) / len(after) if after else None

    found: dict[str, float] = {}
    for code, name in enumerate(KINDS, 1):
        mine = [t for i, t, kind in history if kind == code and i == item]
        of_kind = [e for e in month if e[2] == code]
        own, own_kind = (sum(e[0] == item for e in rows) for rows in (month, of_kind))
        average = len(of_kind) / max(len(month), 1)
        found |= {
            f"user_{name}_share": mean([float(kind == code) for *_, kind in history]),
            f"seen_{name}": len(mine),
            f"days_since_{name}": (at - mine[-1]) / DAY if mine else math.nan,
            f"item_{name}_30d": math.log(1 + own_kind),
            f"item_{name}_rate": (own_kind + SMOOTHING * average) / (own + SMOOTHING),
        }
    recent = [
        (0.5 ** (age / HALF_LIFE), value)
        for age, (i, *_) in enumerate(reversed(history[-10:]))
        if (value := share(i)) is not None
    ]
    last = history[-1][0] if history else 0
    found["covisits"] = math.log(1 + pairs.count((last, item))) if history else math.nan
    found["covisit_share"] = math.nan if (of_last := share(last)) is None else of_last
    weight = sum(w for w, _ in recent)
    found["covisit_recent_share"] = sum(w * v for w, v in recent) / weight if recent else math.nan
    return found


def write(folder: Path, log: list[list[Event]]) -> ItemTimeline:
    items, times, kinds = (np.array(c) for c in zip(*(e for u in log for e in u), strict=True))
    ends = np.cumsum([len(user) for user in log])
    starts = ends - [len(user) for user in log]
    write_timelines(folder, items, times, NUM_ITEMS, kinds, len(KINDS))
    write_covisits(folder, count_pairs(items, times, starts, ends, REACH))
    return ItemTimeline.open(folder)


def draw(rng: np.random.Generator, count: int, until: int) -> list[Event]:
    times = np.sort(rng.integers(START, until, count))
    return [(int(rng.integers(1, NUM_ITEMS)), int(t), int(rng.integers(1, 4))) for t in times]


@pytest.mark.parametrize("seed", range(4))
def test_every_feature_equals_its_definition(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    log = [draw(rng, int(rng.integers(2, 40)), START + 45 * DAY) for _ in range(12)]
    known = write(tmp_path, log)
    at = START + 30 * DAY + np.sort(rng.integers(0, 12 * DAY, 6))
    histories = [draw(rng, int(count), int(t)) for count, t in zip(LENGTHS, at, strict=True)]
    candidates = np.array([rng.permutation(NUM_ITEMS) + 1 for _ in at])
    asked = Histories.of(*([[e[k] for e in h] for h in histories] for k in range(3)))
    facts = Facts(KINDS, covisits=True)
    found = ranking_features(asked, at, candidates, {}, known, {}, (), wanted="all", facts=facts)
    for b, moment in enumerate(at):
        for c, item in enumerate(candidates[b]):
            expected = by_definition(histories[b], int(moment), int(item), log)
            assert set(expected) <= set(NAMES)
            for name, value in expected.items():
                got = found[b, c, NAMES.index(name)]
                assert got == pytest.approx(value, rel=1e-5, nan_ok=True), name


def test_new_items_have_neither_events_nor_co_visits(tmp_path: Path) -> None:
    log = [draw(np.random.default_rng(0), 20, START + 20 * DAY) for _ in range(4)]
    grown = write(tmp_path, log).with_items(2)
    folder = tmp_path / "grown"
    folder.mkdir()
    grown.write(folder)
    again = ItemTimeline.open(folder)
    for known in (grown, again):
        assert known.covisits is not None
        new, last = np.array([NUM_ITEMS + 1, NUM_ITEMS + 2]), np.array([10**5] * 2)
        assert not known.covisits.count(new, np.array([0, 1]), last).any()
        assert not known.covisits.count(np.array([1, 2]), new, last).any()
        assert known.covisits.count(np.array([1]), np.array([0]), last[:1])[0] > 0
        rows = known.behaviours[2].rows_before(new, last)
        assert not known.behaviours[2].total[rows].any()


def test_one_behaviour_has_no_features_of_its_own(tmp_path: Path) -> None:
    write_timelines(tmp_path, np.array([1]), np.array([START]), 1, np.array([1]), 1)
    assert ItemTimeline.open(tmp_path).behaviours == ()
    assert ItemTimeline.open(tmp_path).covisits is None
    names = feature_names((), (), "all", Facts(("view",)))
    assert not [name for name in names if "view" in name or "covisit" in name]


def test_a_dataset_without_timelines_of_behaviours_is_refused(tmp_path: Path) -> None:
    write_timelines(tmp_path, np.array([1]), np.array([START]), 1)
    asked = (Histories.of([[1]]), np.array([START + DAY]), np.array([[1]]), {})
    with pytest.raises(InputError, match="build it again"):
        ranking_features(
            *asked,
            ItemTimeline.open(tmp_path),
            {},
            (),
            wanted=("item_buy_30d",),
            facts=Facts(KINDS),
        )


def test_pairs_without_events_and_too_many_items(tmp_path: Path) -> None:
    none = np.empty(0, np.int64)
    write_covisits(tmp_path, count_pairs(none, none, none, none, 3))
    opened = Covisits.open(tmp_path, 3)
    assert opened is not None
    assert opened.count(np.array([1, 2]), np.array([2, 0]), np.array([9, 9])).tolist() == [0, 0]
    with pytest.raises(InputError, match="covisit_reach = 0"):
        refuse_too_many_items(MAX_ITEMS + 1)
