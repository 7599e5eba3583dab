"""What is computed ahead for a day equals what is computed when somebody asks, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from features.asof import BoundFeatures, specifications
from features.encode import Histories
from features.layout import ItemColumn
from features.prepared import PreparedDay
from features.timeline import DAY, ItemTimeline, write_timelines

NUM_ITEMS, LAST = 30, 12_000
PRICE = (ItemColumn(name="price", kind="numeric"),)
FEATURES = specifications(
    PRICE,
    (),
    (
        "user_events",
        "item_trend",
        "item_age",
        "times_seen",
        "price",
        "item_rate",
        "item_share_30d",
        "price_minus_history",
    ),
)
PRICES = {"price": np.random.default_rng(2).random(NUM_ITEMS + 6).astype(np.float32)}


def timeline_of(directory: Path, delay: int) -> ItemTimeline:
    rng = np.random.default_rng(0)
    items = rng.integers(1, NUM_ITEMS, 400)  # the last item is never chosen
    days = LAST - rng.integers(0, 90, 400)
    write_timelines(directory, items, days * DAY + rng.integers(0, DAY, 400), NUM_ITEMS)
    return ItemTimeline.open(directory).delayed(delay)


def ask(timeline: ItemTimeline, days: list[int], prepared: PreparedDay | None) -> np.ndarray:
    rng = np.random.default_rng(1)
    histories = Histories.of([[3, 4], [5]], [[LAST * DAY, LAST * DAY + 1], [LAST * DAY]])
    candidates = rng.integers(0, NUM_ITEMS + 1, (2, 40))
    at = np.array([day * DAY + 7 for day in days])
    bound = BoundFeatures(FEATURES, PRICE, timeline, PRICES, prepared)
    return bound.rows(histories, at, candidates, {})


@pytest.mark.parametrize("delay", [0, 3])
def test_prepared_features_equal_those_computed_on_demand(delay: int, tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, delay)
    prepared = PreparedDay.after(timeline, FEATURES, PRICES)
    assert len(prepared.runs) == 2
    for days in ([LAST + 1 + delay, LAST + 500], [LAST - 5, LAST - 40], [LAST - 5, LAST + 9]):
        np.testing.assert_array_equal(ask(timeline, days, prepared), ask(timeline, days, None))


def test_prepared_features_are_looked_up_on_their_day_only(tmp_path: Path) -> None:
    """Otherwise the test above would pass on a table that is never read."""
    timeline = timeline_of(tmp_path, 0)
    prepared = PreparedDay.after(timeline, FEATURES, PRICES)
    prepared.values[:] = -7
    assert (ask(timeline, [LAST + 1, LAST + 9], prepared) == -7).any()
    assert not (ask(timeline, [LAST, LAST + 9], prepared) == -7).any()


def test_items_added_later_have_no_events(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, 0).with_items(5)
    prepared = PreparedDay.after(timeline, specifications((), (), ("item_events",)), {})
    assert prepared.values.shape == (NUM_ITEMS + 6, 1)
    assert not prepared.values[-6:].any()
    assert prepared.values[1:NUM_ITEMS].any()
