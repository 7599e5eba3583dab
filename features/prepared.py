"""Item statistics of the day that a running service asks about, looked up instead of computed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.asof import FEATURES, ranking_features
from features.asof_more import MORE
from features.encode import Histories
from features.timeline import DAY, ItemTimeline

ITEMS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class PreparedDay:
    """The features of all items that follow from item and day alone, for one day: those of a
    service are asked of the day after its log ends, again and again.
    """

    day: int
    """First day that is not counted."""
    values: NDArray[np.float32]
    """(V, F) those wanted, in their order; 4 bytes an item and feature."""

    @classmethod
    def after(cls, timeline: ItemTimeline, wanted: tuple[str, ...]) -> "PreparedDay":
        """For the day after the last one of the timeline, by `ranking_features` itself."""
        known = [f.name for f in (*FEATURES, *MORE) if f.of_item]
        names = tuple(name for name in wanted if name in known)
        day, size = timeline.last_day + 1, len(timeline.starts) - 1
        values_VF = np.full((size, len(names)), np.nan, np.float32)
        at = np.array([(day + timeline.delay) * DAY])
        for start in range(0, size if names else 0, ITEMS_AT_ONCE):
            items = np.arange(start, min(start + ITEMS_AT_ONCE, size))
            rows = (Histories.of([[]]), at, items[None], {}, timeline, {}, ())
            values_VF[items] = ranking_features(*rows, wanted=names)[0]
        return cls(day, values_VF)

    def of(self, items_BC: NDArray[np.integer]) -> NDArray[np.float32]:
        """(B, C, F)"""
        return self.values.take(items_BC, axis=0)
