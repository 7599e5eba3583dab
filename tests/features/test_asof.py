"""Ranking features against their definitions in plain loops, and that none knows the future."""

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features import asof
from features.asof import feature_names, ranking_features
from features.encode import Histories
from features.errors import InputError
from features.layout import ItemColumn
from features.timeline import DAY, ITEM_TIMELINE, ItemTimeline, write_timelines

NUM_ITEMS, NUM_QUESTIONS, NUM_CANDIDATES = 12, 7, 9
COLUMNS = (
    ItemColumn(name="title", kind="text", size=50, width=3),
    ItemColumn(name="brand", kind="category", size=6),
    ItemColumn(name="genres", kind="categories", size=9, width=3),
    ItemColumn(name="price", kind="numeric"),
    ItemColumn(name="released", kind="timestamp"),
)
SOURCES = ("model", "item_knn")
NAMES = feature_names(COLUMNS, SOURCES)


@dataclass(frozen=True)
class World:
    """A log of (item, time) events, the questions, and the item table."""

    log: list[tuple[int, int]]
    histories: list[list[tuple[int, int]]]
    at: list[int]
    candidates: NDArray[np.int64]
    scores: dict[str, NDArray[np.float32]]
    table: dict[str, NDArray]

    def features(self, directory: Path, rows: slice = slice(None)) -> NDArray[np.float32]:
        items, times = (np.array(column, np.int64) for column in zip(*self.log, strict=True))
        write_timelines(directory, items, times, NUM_ITEMS)
        chosen = self.histories[rows]
        histories = Histories.of(
            [[item for item, _ in history] for history in chosen],
            [[time for _, time in history] for history in chosen],
        )
        return ranking_features(
            histories,
            np.array(self.at, np.int64)[rows],
            self.candidates[rows],
            {name: values[rows] for name, values in self.scores.items()},
            ItemTimeline.open(directory),
            self.table,
            COLUMNS,
        )


def random_world(seed: int) -> World:
    rng = np.random.default_rng(seed)
    start = 11_000 * DAY

    def events(count: int, until: int) -> list[tuple[int, int]]:
        times = np.sort(rng.integers(start, until, count))
        times[1::4] = times[: len(times[1::4]) * 4 : 4]  # simultaneous events
        return [(int(rng.integers(1, NUM_ITEMS)), int(time)) for time in np.sort(times)]

    at = [int(start + rng.integers(1, 60 * DAY)) for _ in range(NUM_QUESTIONS)]
    histories = [events(int(rng.integers(1, 25)), time) for time in at]
    histories[0] = []
    histories[1] = histories[1][:1]
    genres = np.zeros((NUM_ITEMS + 1, 3), np.int32)
    for item in range(1, NUM_ITEMS + 1):
        known = rng.permutation(np.arange(1, 9))[: rng.integers(0, 4)]
        genres[item, : len(known)] = known
    price = rng.random(NUM_ITEMS + 1).astype(np.float32)
    price[rng.random(NUM_ITEMS + 1) < 0.3] = np.nan
    released = rng.integers(start - 9 * DAY, start + 90 * DAY, NUM_ITEMS + 1)
    scores = {}
    for source in SOURCES:
        drawn = rng.integers(0, 5, (NUM_QUESTIONS, NUM_CANDIDATES)).astype(np.float32)
        scores[source] = np.where(rng.random(drawn.shape) < 0.3, np.nan, drawn)
    candidates = np.array([rng.permutation(NUM_ITEMS) for _ in at])[:, :NUM_CANDIDATES] + 1
    candidates[2, -2:] = 0
    return World(
        log=events(400, start + 50 * DAY) + [e for history in histories for e in history],
        histories=histories,
        at=at,
        candidates=candidates,
        scores=scores,
        table={
            "title": rng.integers(0, 50, (NUM_ITEMS + 1, 3)).astype(np.int32),
            "brand": rng.integers(0, 6, NUM_ITEMS + 1).astype(np.int32),
            "genres": genres,
            "price": price,
            "released": np.where(rng.random(NUM_ITEMS + 1) < 0.2, 0, released),
        },
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def item_by_definition(world: World, at: int, item: int) -> dict[str, float]:
    past = [time // DAY for _, time in world.log if time // DAY < at // DAY]
    day = max(past) + 1 if past else at // DAY
    days = [time // DAY for other, time in world.log if other == item and time // DAY < day]
    week = sum(day - 7 <= d for d in days)
    month = sum(day - 30 <= d for d in days)
    every = sum(day - 30 <= time // DAY < day for _, time in world.log)
    return {
        "item_events": math.log(1 + len(days)),
        "item_events_7d": math.log(1 + week),
        "item_events_30d": math.log(1 + month),
        "item_share_30d": month / every if every else math.nan,
        "item_trend": math.log((week + 1) / (month * 7 / 30 + 1)),
        "item_age": day - min(days) if days else math.nan,
        "item_days_since_event": day - max(days) if days else math.nan,
    }


def history_by_definition(history: list[tuple[int, int]], at: int, item: int) -> dict[str, float]:
    times = [time for _, time in history]
    gaps = [(b - a) / DAY for a, b in itertools.pairwise(times)]
    seen = [time for other, time in history if other == item]
    return {
        "user_events": math.log(1 + len(history)),
        "user_days_since_event": (at - times[-1]) / DAY if times else math.nan,
        "user_mean_gap": mean(gaps),
        "times_seen": len(seen),
        "days_since_seen": (at - seen[-1]) / DAY if seen else math.nan,
    }


def share_by_definition(
    history: list[int], item: int, values: list[set[int]], *, recent: bool
) -> float:
    shares = []
    for value in values[item]:
        numerator = denominator = 0.0
        for after, other in enumerate(reversed(history)):
            if values[other]:
                weight = 0.5 ** (after / 10) if recent else 1.0
                denominator += weight
                numerator += weight * (value in values[other])
        shares.append(numerator / denominator if denominator else math.nan)
    return mean(shares)


def attributes_by_definition(
    world: World, history: list[int], at: int, item: int
) -> dict[str, float]:
    sets = {
        name: [set(np.atleast_1d(row).tolist()) - {0, 1} for row in world.table[name]]
        for name in ("brand", "genres")
    }
    found = {}
    for name, values in sets.items():
        found[f"{name}_share"] = share_by_definition(history, item, values, recent=False)
        found[f"{name}_recent_share"] = share_by_definition(history, item, values, recent=True)
    prices = [float(world.table["price"][other]) for other in history]
    found["price"] = float(world.table["price"][item])
    found["price_minus_history"] = found["price"] - mean([p for p in prices if not math.isnan(p)])
    released = int(world.table["released"][item])
    found["released_age"] = (at - released) / DAY if released else math.nan
    return found


def sources_by_definition(world: World, b: int, c: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for source, scores in world.scores.items():
        row = scores[b].tolist()
        proposed = sorted(
            (i for i in range(len(row)) if not math.isnan(row[i])), key=lambda i: (-row[i], i)
        )
        best = row[proposed[0]] if proposed else math.nan
        found[f"{source}_score"] = row[c]
        found[f"{source}_margin"] = row[c] - best
        found[f"{source}_rank"] = proposed.index(c) + 1 if c in proposed else math.nan
    found["num_sources"] = sum(not math.isnan(scores[b, c]) for scores in world.scores.values())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_every_feature_equals_its_definition(seed: int, tmp_path: Path) -> None:
    world = random_world(seed)
    actual = world.features(tmp_path)
    for b, history in enumerate(world.histories):
        for c, item in enumerate(world.candidates[b].tolist()):
            items = [other for other, _ in history]
            expected = (
                item_by_definition(world, world.at[b], item)
                | history_by_definition(history, world.at[b], item)
                | attributes_by_definition(world, items, world.at[b], item)
                | sources_by_definition(world, b, c)
            )
            assert set(expected) == set(NAMES)
            row = [expected[name] if item else math.nan for name in NAMES]
            np.testing.assert_allclose(
                actual[b, c], row, rtol=1e-5, atol=1e-5, err_msg=f"{b} {c} {NAMES}"
            )


@pytest.mark.parametrize("seed", range(5))
def test_events_from_the_day_of_the_question_on_change_nothing(seed: int, tmp_path: Path) -> None:
    world = random_world(seed)
    world = replace(world, at=[max(time // DAY for _, time in world.log) * DAY] * NUM_QUESTIONS)
    rng = np.random.default_rng(seed + 100)
    log = [event for event in world.log if event[1] < world.at[0]]
    future = [
        (int(rng.integers(1, NUM_ITEMS + 1)), int(world.at[0] + rng.integers(0, 3 * DAY)))
        for _ in range(200)
    ]
    before = replace(world, log=log).features(tmp_path)
    after = replace(world, log=log + future).features(tmp_path)
    np.testing.assert_array_equal(after, before)


def test_events_of_the_day_before_do_change_the_features(tmp_path: Path) -> None:
    """Otherwise the test above would pass on features that are constant."""
    world = random_world(0)
    last = max(time // DAY for _, time in world.log)
    world = replace(world, at=[(last + 1) * DAY] * NUM_QUESTIONS)
    more = replace(world, log=[*world.log, *((item, last * DAY) for item in range(1, 13))])
    changed = {
        name
        for f, name in enumerate(NAMES)
        if not np.array_equal(
            world.features(tmp_path)[..., f], more.features(tmp_path)[..., f], equal_nan=True
        )
    }
    assert changed >= {"item_events", "item_events_7d", "item_events_30d", "item_share_30d"}
    assert all(name.startswith("item_") for name in changed)


def test_a_question_long_after_the_log_looks_at_its_last_weeks(tmp_path: Path) -> None:
    world = random_world(1)
    end = (max(time // DAY for _, time in world.log) + 1) * DAY
    soon = replace(world, at=[end] * NUM_QUESTIONS).features(tmp_path)
    late = replace(world, at=[end + 400 * DAY] * NUM_QUESTIONS).features(tmp_path)
    of_items = [f for f, name in enumerate(NAMES) if name.startswith("item_")]
    np.testing.assert_array_equal(late[..., of_items], soon[..., of_items])


@pytest.mark.parametrize("max_cells", [1, 30, 1 << 18])
def test_a_question_has_the_same_features_alone_and_in_a_batch(
    max_cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = random_world(2)
    alone = [world.features(tmp_path, slice(b, b + 1)) for b in range(NUM_QUESTIONS)]
    monkeypatch.setattr(asof, "MAX_CELLS", max_cells)
    np.testing.assert_array_equal(world.features(tmp_path), np.concatenate(alone))


def test_undated_histories_leave_the_features_of_time_undefined(tmp_path: Path) -> None:
    world = random_world(3)
    undated = replace(world, histories=[[(i, 0) for i, _ in h] for h in world.histories])
    dated, actual = world.features(tmp_path), undated.features(tmp_path)
    of_time = {"user_days_since_event", "user_mean_gap", "days_since_seen"}
    for f, name in enumerate(NAMES):
        if name in of_time:
            assert np.isnan(actual[..., f]).all(), name
        elif not name.startswith("item_"):  # of other users too: the log has changed with them
            np.testing.assert_array_equal(actual[..., f], dated[..., f], err_msg=name)


def test_no_questions_and_no_events_are_no_special_case(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    write_timelines(tmp_path, none, none, NUM_ITEMS)
    timeline = ItemTimeline.open(tmp_path)
    table = random_world(0).table
    empty = ranking_features(
        Histories.of([]), none, np.zeros((0, 4), np.int64), {}, timeline, table, COLUMNS
    )
    assert empty.shape == (0, 4, len(feature_names(COLUMNS, ())))
    one = ranking_features(
        Histories.of([[]]), np.array([DAY]), np.array([[1, 2]]), {}, timeline, table, COLUMNS
    )
    values = dict(zip(feature_names(COLUMNS, ()), one[0, 0], strict=True))
    assert values["item_events"] == values["user_events"] == values["num_sources"] == 0
    assert np.isnan(values["item_age"])


def test_a_damaged_timeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / ITEM_TIMELINE).write_bytes(b"no arrow file")
    with pytest.raises(InputError, match=ITEM_TIMELINE):
        ItemTimeline.open(tmp_path)
