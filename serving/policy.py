"""What may be recommended to whom, and how the best are arranged: one object that sources,
pipeline, batch jobs and evaluation all ask.

Shape suffixes: B histories, V dense item ids with padding, M entries of a list, E events,
W values of an item, S values of a column.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.block import Block
from serving.topk import NOTHING, Floats, Ints

if TYPE_CHECKING:
    from serving.arrange import Arrangement
    from serving.formula import Formula

Bools = NDArray[np.bool_]
FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Window:
    """(V,) each: an item may be recommended in [start, end), microseconds UTC."""

    start: Ints
    end: Ints

    @cached_property
    def _sorted(self) -> tuple[Ints, Ints]:
        return np.sort(self.start), np.sort(self.end)

    def open(self, items_BM: Ints, at_B: Ints) -> Bools:
        """Which items are available at the moment of their row."""
        at_B1 = at_B[:, None]
        return (self.start[items_BM] <= at_B1) & (at_B1 < self.end[items_BM])

    def most_closed(self, at_B: Ints) -> int:
        """At least as many items as are unavailable to any one row."""
        starts, ends = self._sorted
        closed_B = len(starts) - np.searchsorted(starts, at_B, "right")
        return int((closed_B + np.searchsorted(ends, at_B, "right")).max(initial=0))


@dataclass(frozen=True)
class Cap:
    """Leaves out what a history met too often of late. values: (V, W) value ids of a column, 0
    for none; None counts the items themselves. codes: behaviours that count, None for all.
    """

    at_most: int
    microseconds: int
    num_values: int
    values: Ints | None
    codes: Ints | None

    def spent(self, block: Block) -> Bools:
        """(B, S) True for the values that are used up; S is V where items are counted."""
        histories = block.histories
        times_E = histories.timestamps[block.places]
        late_E = times_E >= block.at[block.rows] - self.microseconds
        if self.codes is not None:
            late_E &= np.isin(histories.events[block.places], self.codes)
        rows, items = block.rows[late_E], block.items[late_E].astype(np.int64)
        if block.context.shown is not None:
            shown = block.context.shown
            rows = np.concatenate([rows, np.repeat(np.arange(len(shown)), [*map(len, shown)])])
            items = np.concatenate([items, *shown])
        if self.values is not None:
            values_EW = self.values[items]
            rows = np.repeat(rows, values_EW.shape[1])
            items = values_EW.reshape(-1)
        counts = np.bincount(rows * self.num_values + items, minlength=len(block) * self.num_values)
        spent_BS = counts.reshape(len(block), self.num_values) >= self.at_most
        spent_BS[:, 0] = False
        return spent_BS

    def keep(self, items_BM: Ints, spent_BS: Bools) -> Bools:
        """Which entries carry no value that is used up."""
        rows = np.arange(len(items_BM))
        if self.values is None:
            return np.logical_not(spent_BS[rows[:, None], items_BM])
        return np.logical_not(spent_BS[rows[:, None, None], self.values[items_BM]].any(axis=2))


@dataclass(frozen=True)
class Policy:
    """Filters, which act on every source, and the arrangement of what was ranked."""

    exclude_seen: bool
    blocked: Bools | None = None
    """(V,) True for dense ids that may not be recommended; None permits all."""
    window: Window | None = None
    caps: tuple[Cap, ...] = ()
    arrangement: "Arrangement | None" = None
    formula: "Formula | None" = None
    """Of the ranker's tasks."""

    @classmethod
    def of(
        cls, num_items: int, *, exclude_seen: bool, allow: Ints | None, deny: Ints | None
    ) -> "Policy":
        """From dense ids: only those in `allow` (None: all), none of those in `deny`."""
        return cls(exclude_seen).narrowed(
            num_items, exclude_seen=exclude_seen, allow=allow, deny=deny
        )

    def narrowed(
        self, num_items: int, *, exclude_seen: bool, allow: Ints | None, deny: Ints | None
    ) -> "Policy":
        """The policy with fewer items: only those in `allow` (None: all), none in `deny`."""
        if allow is None and deny is None:
            return replace(self, exclude_seen=exclude_seen)
        blocked_V = np.full(num_items + 1, allow is not None)
        blocked_V[0] = True
        if allow is not None:
            blocked_V[allow] = False
        if deny is not None:
            blocked_V[deny] = True
        if self.blocked is not None:
            blocked_V |= self.blocked
        return replace(self, exclude_seen=exclude_seen, blocked=blocked_V)

    def as_of(self, at: int) -> "Policy":
        """The filters for one moment and no history: availability becomes a block."""
        if self.window is None:
            return self
        closed_V = ~self.window.open(np.arange(len(self.window.start))[None], np.array([at]))[0]
        blocked_V = closed_V if self.blocked is None else closed_V | self.blocked
        return replace(self, blocked=blocked_V, window=None)

    @cached_property
    def permitted(self) -> Ints:
        """Dense ids that are not blocked, ascending; asked only when some are."""
        assert self.blocked is not None
        return np.flatnonzero(~self.blocked)

    @cached_property
    def num_blocked(self) -> int:
        """How many items are blocked for everybody."""
        return 0 if self.blocked is None else int(np.count_nonzero(self.blocked[1:]))

    def num_permitted(self, block: Block) -> Ints:
        """How many items each history could be answered with."""
        if self.window is not None or self.caps:
            every_BV = np.broadcast_to(
                np.arange(block.num_items + 1), (len(block), block.num_items + 1)
            )
            return self.keep(every_BV, block).sum(axis=1)
        total = block.num_items - self.num_blocked
        if not self.exclude_seen:
            return np.full(len(block), total)
        if self.blocked is None:
            return total - block.num_seen
        rows, items = np.divmod(block.seen_keys, block.num_items + 1)
        return total - np.bincount(rows[~self.blocked[items]], minlength=len(block))

    def hide(self, scores_BV: Floats, block: Block) -> None:
        """Set what may not be recommended to -inf, in place."""
        scores_BV[:, 0] = NOTHING
        if self.blocked is not None:
            scores_BV[:, self.blocked] = NOTHING
        if self.exclude_seen and len(block) == 1:  # the same, quicker
            scores_BV[0, block.items] = NOTHING
        elif self.exclude_seen:
            scores_BV[block.rows, block.items] = NOTHING
        if self.window is not None:
            at_B1 = block.at[:, None]
            scores_BV[(self.window.start > at_B1) | (at_B1 >= self.window.end)] = NOTHING
        for cap in self.caps:
            every_BV = np.broadcast_to(np.arange(scores_BV.shape[1]), scores_BV.shape)
            scores_BV[~cap.keep(every_BV, cap.spent(block))] = NOTHING

    def keep(self, items_BM: Ints, block: Block) -> Bools:
        """Which entries of the lists may be recommended; padding may not."""
        keep_BM = items_BM != 0
        if self.blocked is not None:
            keep_BM &= ~self.blocked[items_BM]
        if self.exclude_seen and len(block.seen_keys):
            keys_BM, seen = items_BM, block.seen_keys
            if len(items_BM) > 1:
                keys_BM = items_BM + np.arange(len(items_BM))[:, None] * (block.num_items + 1)
            # behind the last one is the last one again, which is another then
            keep_BM &= seen.take(seen.searchsorted(keys_BM), mode="clip") != keys_BM
        if self.window is not None:
            keep_BM &= self.window.open(items_BM, block.at)
        for cap in self.caps:
            keep_BM &= cap.keep(items_BM, cap.spent(block))
        return keep_BM

    def depth(self, block: Block, k: int) -> int:
        """How long a list to fetch so that k of it are likely to be kept; `keep` decides."""
        wanted = k + (int(block.num_seen.max(initial=0)) if self.exclude_seen else 0)
        left_out = self.num_blocked
        if self.window is not None:
            left_out += self.window.most_closed(block.at)
        if left_out:
            share = max(block.num_items - left_out, 1) / block.num_items
            wanted = min(wanted + left_out, int(1.2 * wanted / share) + 20)
        if self.caps:
            wanted += k
        return min(wanted, block.num_items)

    def fills(self, keep_BM: Bools, block: Block, k: int) -> bool:
        """Whether lists fetched to some depth have k entries each, or all that are permitted."""
        if len(keep_BM) == 1 and np.count_nonzero(keep_BM) >= k:
            return True
        counts_B = keep_BM.sum(axis=1)
        if (counts_B >= k).all() or keep_BM.shape[1] >= block.num_items:
            return True
        return bool((counts_B >= np.minimum(self.num_permitted(block), k)).all())
