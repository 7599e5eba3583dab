"""Item statistics of the day that a running service asks about, looked up instead of computed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.asof import BoundFeatures
from features.encode import Histories
from features.question import Feature
from features.timeline import DAY, NEVER, ItemTimeline

ITEMS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class PreparedDay:
    """The features of all items that follow from item and day alone, for one day: those of a
    service are asked of the day after its log ends, again and again.
    """

    begin: int
    """First moment of the day, microseconds: what is asked later is answered alike."""
    values: NDArray[np.float32]
    """(V, P) those of the P features that can be prepared, in their order; 4 bytes each."""
    runs: tuple[tuple[slice, slice], ...]
    """Where neighbours among all features stand among the prepared ones."""

    @classmethod
    def after(
        cls,
        timeline: ItemTimeline,
        features: tuple[Feature, ...],
        item_table: Mapping[str, NDArray],
    ) -> "PreparedDay":
        """For the day after the last one of the timeline, by `BoundFeatures` itself."""
        chosen = tuple(feature for feature in features if feature.of_item)
        places = [f for f, feature in enumerate(features) if feature.of_item]
        if timeline.last_day == NEVER:  # then every day is its own
            return cls(np.iinfo(np.int64).max, np.zeros((0, 0), np.float32), ())
        begin, size = (timeline.last_day + 1 + timeline.delay) * DAY, len(timeline.starts) - 1
        values_VP = np.full((size, len(chosen)), np.nan, np.float32)
        bound = BoundFeatures(chosen, (), timeline, item_table)
        for start in range(0, size if chosen else 0, ITEMS_AT_ONCE):
            items = np.arange(start, min(start + ITEMS_AT_ONCE, size))
            values_VP[items] = bound.rows(Histories.of([[]]), np.array([begin]), items[None], {})[0]
        return cls(begin, values_VP, _runs(places))

    def copy_to(self, rows_BCF: NDArray[np.float32], items_BC: NDArray[np.integer]) -> None:
        """Write the prepared features of some items where they belong."""
        values_BCP = self.values.take(items_BC, axis=0)
        for among_all, among_prepared in self.runs:
            rows_BCF[:, :, among_all] = values_BCP[:, :, among_prepared]


def _runs(places: list[int]) -> tuple[tuple[slice, slice], ...]:
    """Runs of neighbouring places, and their place in the list.

    >>> _runs([3, 4, 9])
    ((slice(3, 5, None), slice(0, 2, None)), (slice(9, 10, None), slice(2, 3, None)))
    """
    starts = [n for n, place in enumerate(places) if not n or place != places[n - 1] + 1]
    return tuple(
        (slice(places[n], places[n] + end - n), slice(n, end))
        for n, end in zip(starts, [*starts[1:], len(places)], strict=True)
    )
