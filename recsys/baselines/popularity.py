"""Popularity: the same list for everyone, and the yardstick of the honest (global time) split."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.baselines.interface import Baseline, Interactions, Scores, num_rows, without_padding

DAY = 86_400 * 1_000_000  # microseconds


def event_counts(items: NDArray[np.integer], num_items: int) -> NDArray[np.int64]:
    """(num_items + 1,) events of each dense id."""
    return np.bincount(items, minlength=num_items + 1).astype(np.int64)


class Popularity(Baseline):
    """Scores each item by its training events."""

    def __init__(self, item_scores: NDArray[np.float32]) -> None:
        self.item_scores = item_scores
        """(num_items + 1,) float32."""

    @classmethod
    def fit(cls, interactions: Interactions) -> Self:
        """Count all events, repeated ones included."""
        items, _ = interactions.events()
        return cls(event_counts(items, interactions.num_items).astype(np.float32))

    def scores(self, histories: csr_matrix) -> Scores:
        """The counts, a row for every history."""
        return without_padding(np.tile(self.item_scores, (num_rows(histories), 1)))


class RecentPopularity(Popularity):
    """Scores each item by its events in the last days before the end of training."""

    @classmethod
    def fit(cls, interactions: Interactions, *, days: float = 7, cutoff: int | None = None) -> Self:
        """Count the events in (cutoff - days, cutoff]; equal counts are ordered by all events.

        cutoff: microseconds, by default the latest training event.
        """
        items, timestamps = interactions.events()
        end = int(timestamps.max(initial=0)) if cutoff is None else cutoff
        known = timestamps <= end
        items, timestamps = items[known], timestamps[known]
        recent = event_counts(items[timestamps > end - days * DAY], interactions.num_items)
        every = event_counts(items, interactions.num_items)
        return cls((recent + every / (every.sum() + 1)).astype(np.float32))
