"""What may be recommended to whom: one object that sources, ranker and batch jobs all ask.

Shape suffixes: B histories, V dense item ids with padding, M entries of a list, E events.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from serving.errors import RequestError
from serving.topk import NOTHING, Floats, Ints


@dataclass(frozen=True)
class Block:
    """B histories that are answered together, with their events flattened once."""

    histories: Histories
    at: Ints
    """Moment of each request, (B,) microseconds UTC."""
    rows: Ints
    """Row of each event, (E,)."""
    items: NDArray[np.integer]
    """Dense item id of each event, (E,)."""
    num_items: int

    @classmethod
    def of(cls, histories: Histories, at_B: Ints, num_items: int) -> "Block":
        """Flatten the histories; raises RequestError for ids outside 1..num_items.

        The check matters: onnxruntime would read the table from its end for a negative id.
        """
        if len(histories) == 1:
            items_E = histories.items[histories.starts[0] : histories.ends[0]]
            rows_E = np.zeros(len(items_E), np.int64)
        else:
            lengths = histories.lengths
            ends = np.cumsum(lengths)
            rows_E = np.repeat(np.arange(len(lengths)), lengths)
            shift = np.repeat(histories.starts - (ends - lengths), lengths)
            items_E = histories.items[np.arange(len(rows_E)) + shift]
        if len(items_E) and not (items_E.min() >= 1 and items_E.max() <= num_items):
            wrong = items_E[(items_E < 1) | (items_E > num_items)]
            raise RequestError(
                f"histories hold {len(wrong)} item ids outside 1..{num_items}, "
                f"the first are {wrong[:5].tolist()}"
            )
        return cls(histories, at_B, rows_E, items_E, num_items)

    def __len__(self) -> int:
        return len(self.at)

    @cached_property
    def seen_keys(self) -> Ints:
        """Of each distinct seen item row * V + item, ascending."""
        return np.unique(self.rows * (self.num_items + 1) + self.items)

    @cached_property
    def num_seen(self) -> Ints:
        """Distinct seen items of each history."""
        rows = self.seen_keys // (self.num_items + 1)
        return np.bincount(rows, minlength=len(self)).astype(np.int64)


@dataclass(frozen=True)
class Policy:
    """The filters of one request."""

    exclude_seen: bool
    blocked: NDArray[np.bool_] | None = None
    """(V,) True for dense ids that may not be recommended; None permits all."""

    @classmethod
    def of(
        cls, num_items: int, *, exclude_seen: bool, allow: Ints | None, deny: Ints | None
    ) -> "Policy":
        """From dense ids: only those in `allow` (None: all), none of those in `deny`."""
        if allow is None and deny is None:
            return cls(exclude_seen)
        blocked_V = np.full(num_items + 1, allow is not None)
        blocked_V[0] = True
        if allow is not None:
            blocked_V[allow] = False
        if deny is not None:
            blocked_V[deny] = True
        return cls(exclude_seen, blocked_V)

    @cached_property
    def permitted(self) -> Ints:
        """Dense ids that are not blocked, ascending; asked only when some are."""
        assert self.blocked is not None
        return np.flatnonzero(~self.blocked)

    def num_permitted(self, block: Block) -> Ints:
        """How many items each history could be answered with."""
        total = block.num_items if self.blocked is None else len(self.permitted)
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

    def keep(self, items_BM: Ints, block: Block) -> NDArray[np.bool_]:
        """Which entries of the lists may be recommended; padding may not."""
        keep_BM = items_BM != 0
        if self.blocked is not None:
            keep_BM &= ~self.blocked[items_BM]
        if self.exclude_seen and len(block.seen_keys):
            keys_BM = items_BM + np.arange(len(items_BM))[:, None] * (block.num_items + 1)
            position = np.searchsorted(block.seen_keys, keys_BM)
            position[position == len(block.seen_keys)] = 0
            keep_BM &= block.seen_keys[position] != keys_BM
        return keep_BM

    def most_seen(self, block: Block) -> int:
        """How many seen entries `keep` takes away from one list at most."""
        return int(block.num_seen.max(initial=0)) if self.exclude_seen else 0

    @cached_property
    def num_blocked(self) -> int:
        """How many items are blocked."""
        return 0 if self.blocked is None else len(self.blocked) - 1 - len(self.permitted)
