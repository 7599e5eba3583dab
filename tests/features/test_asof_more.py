"""The further ranking features against their definitions in plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.asof import feature_names, ranking_features
from features.asof_more import SMOOTHING
from features.encode import Histories
from features.errors import InputError
from features.layout import ItemColumn
from features.timeline import DAY, ItemTimeline, write_timelines

NUM_ITEMS = 9
COLUMNS = (
    ItemColumn(name="title", kind="text", size=12, width=3),
    ItemColumn(name="brand", kind="category", size=6),
    ItemColumn(name="price", kind="numeric"),
)
WANTED = (
    "user_events_7d", "user_events_30d", "user_variety", "session_events", "session_minutes",
    "session_times_seen", "at_hour", "at_weekday", "item_weekday_share", "item_rate",
    "item_events_1d", "title_overlap", "brand_since", "brand_session_share", "price_distance",
)  # fmt: skip
MINUTE = 60_000_000
START = 11_000 * DAY


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def visit(history: list[tuple[int, int]], at: int) -> list[tuple[int, int]]:
    """The last events without a pause of more than half an hour, up to now."""
    found: list[tuple[int, int]] = []
    later = at
    for item, time in reversed(history):
        if later - time > 30 * MINUTE:
            break
        found.insert(0, (item, time))
        later = time
    return found


def by_definition(
    history: list[tuple[int, int]],
    at: int,
    item: int,
    log: list[tuple[int, int]],
    table: dict[str, NDArray],
) -> dict[str, float]:
    session = visit(history, at)
    day = max(t // DAY for _, t in log if t // DAY < at // DAY) + 1
    days = [t // DAY for i, t in log if i == item and t // DAY < day]
    every = [t // DAY for _, t in log if day - 30 <= t // DAY < day]
    month = [d for d in days if day - 28 <= d]
    brand = table["brand"]
    with_brand = [place for place, (i, _) in enumerate(history) if brand[i] == brand[item] > 1]
    branded = [i for i, _ in session if brand[i] > 1]
    titled = [i for i, _ in history if (table["title"][i] > 1).any()]
    tokens = [t for t in table["title"][item] if t > 1]
    logs = [math.log(table["price"][i]) for i, _ in history if table["price"][i] > 0]
    spread = math.sqrt(mean([(x - mean(logs)) ** 2 for x in logs]) + 0.01) if logs else math.nan
    return {
        "user_events_7d": math.log(1 + sum(t > at - 7 * DAY for _, t in history)),
        "user_events_30d": math.log(1 + sum(t > at - 30 * DAY for _, t in history)),
        "user_variety": len({i for i, _ in history}) / len(history) if history else math.nan,
        "session_events": len(session),
        "session_minutes": (at - session[0][1]) / MINUTE if session else 0,
        "session_times_seen": sum(i == item for i, _ in session),
        "at_hour": at // (60 * MINUTE) % 24,
        "at_weekday": (at // DAY + 3) % 7,
        "item_weekday_share": sum(d % 7 == at // DAY % 7 for d in month) / len(month)
        if month
        else math.nan,
        "item_rate": (sum(day - 30 <= d for d in days) + SMOOTHING / NUM_ITEMS)
        / (len(every) + SMOOTHING),
        "item_events_1d": math.log(1 + days.count(day - 1)),
        "title_overlap": mean(
            [
                sum(list(table["title"][i]).count(t) for i in titled) / len(titled)
                for t in tokens
                if titled
            ]
        ),
        "brand_since": len(history) - 1 - with_brand[-1] if with_brand else math.nan,
        "brand_session_share": sum(brand[i] == brand[item] for i in branded) / len(branded)
        if branded and brand[item] > 1
        else math.nan,
        "price_distance": abs(math.log(table["price"][item]) - mean(logs)) / spread,
    }


@pytest.mark.parametrize("seed", range(4))
def test_every_feature_equals_its_definition(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    table: dict[str, NDArray] = {
        "title": rng.integers(0, 12, (NUM_ITEMS + 1, 3)).astype(np.int32),
        "brand": rng.integers(0, 6, NUM_ITEMS + 1).astype(np.int32),
        "price": rng.uniform(1, 9, NUM_ITEMS + 1).astype(np.float32),
    }
    at = START + 50 * DAY + np.sort(rng.integers(0, 9 * DAY, 8))
    histories = []
    for moment in at:
        count = int(rng.integers(0, 12))
        gaps = rng.choice([5, 20, 31, 3_000, 20_000], count) * MINUTE
        times = moment - np.cumsum(gaps)[::-1]
        histories.append([(int(rng.integers(1, NUM_ITEMS + 1)), int(t)) for t in times])
    log = [(int(rng.integers(1, NUM_ITEMS)), int(t)) for t in rng.integers(START, at[-1], 300)]
    items, times = (np.array(column) for column in zip(*log, strict=True))
    write_timelines(tmp_path, items, times, NUM_ITEMS)
    candidates = np.array([rng.permutation(NUM_ITEMS) + 1 for _ in at])
    found = ranking_features(
        Histories.of(
            [[i for i, _ in h] for h in histories], [[t for _, t in h] for h in histories]
        ),
        at,
        candidates,
        {},
        ItemTimeline.open(tmp_path),
        table,
        COLUMNS,
        wanted=WANTED,
    )
    for b, moment in enumerate(at):
        for c, item in enumerate(candidates[b]):
            expected = by_definition(histories[b], int(moment), int(item), log, table)
            for f, name in enumerate(WANTED):
                assert found[b, c, f] == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name


def test_a_delay_knows_what_was_known_so_many_days_before(tmp_path: Path) -> None:
    times = START + np.arange(10) * DAY
    write_timelines(tmp_path, np.ones(10, np.int64), times, 2)
    known = ItemTimeline.open(tmp_path)
    at = np.array([START + 8 * DAY + 5])
    question = (Histories.of([[]]), at, np.array([[1]]), {})
    for delay in (0, 3):
        found = ranking_features(*question, known.delayed(delay), {}, (), wanted=("item_events",))
        assert found[0, 0, 0] == pytest.approx(math.log(1 + 8 - delay))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"no ranking features \['item_evnts'\]"):
        feature_names(COLUMNS, (), ("item_evnts",))
