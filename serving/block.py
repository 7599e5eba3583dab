"""Histories that are answered together, and what else each request says.

Shape suffixes: B histories, E events.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.distinct import distinct
from features.encode import Histories
from serving.errors import RequestError
from serving.topk import Ints


@dataclass(frozen=True, slots=True)
class Context:
    """What a request says beside its history; None where no request of the batch says it."""

    segments: Ints | None = None
    """(B,) number of the segment whose popularity counts, -1 for everybody's."""
    seeds: NDArray[np.uint64] | None = None
    """(B,) what the draws of an exploring policy start from; without it nothing is explored."""
    shown: tuple[Ints, ...] | None = None
    """Of each history the dense ids that were shown before, repeated as often as shown."""

    def take(self, rows: Ints) -> "Context":
        """The same of some histories."""
        return Context(
            None if self.segments is None else self.segments[rows],
            None if self.seeds is None else self.seeds[rows],
            None if self.shown is None else tuple(self.shown[row] for row in rows.tolist()),
        )


NO_CONTEXT = Context()


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
    places: Ints | slice
    """Where the events stand in the arrays of `histories`, (E,)."""
    num_items: int
    context: Context = NO_CONTEXT

    @classmethod
    def of(
        cls, histories: Histories, at_B: Ints, num_items: int, context: Context = NO_CONTEXT
    ) -> "Block":
        """Flatten the histories; raises RequestError for ids outside 1..num_items.

        The check matters: onnxruntime would read the table from its end for a negative id.
        """
        places: Ints | slice
        if len(histories) == 1:
            places = slice(int(histories.starts[0]), int(histories.ends[0]))
            items_E = histories.items[places]
            rows_E = np.zeros(len(items_E), np.int64)
        else:
            lengths = histories.lengths
            ends = np.cumsum(lengths)
            rows_E = np.repeat(np.arange(len(lengths)), lengths)
            shift = np.repeat(histories.starts - (ends - lengths), lengths)
            places = np.arange(len(rows_E)) + shift
            items_E = histories.items[places]
        if len(items_E) and not (items_E.min() >= 1 and items_E.max() <= num_items):
            wrong = items_E[(items_E < 1) | (items_E > num_items)]
            raise RequestError(
                f"histories hold {len(wrong)} item ids outside 1..{num_items}, "
                f"the first are {wrong[:5].tolist()}"
            )
        return cls(histories, at_B, rows_E, items_E, places, num_items, context)

    def __len__(self) -> int:
        return len(self.at)

    def row(self, row: int) -> "Block":
        """One of the histories as a block of its own."""
        return self.of_rows(np.array([row]))

    def of_rows(self, rows: Ints) -> "Block":
        """Some of the histories as a block."""
        context = self.context if self.context is NO_CONTEXT else self.context.take(rows)
        return Block.of(self.histories.take(rows), self.at[rows], self.num_items, context)

    @cached_property
    def seen_keys(self) -> Ints:
        """Of each distinct seen item row * V + item, ascending."""
        if len(self) == 1:
            return distinct(np.asarray(self.items, np.int64))
        return distinct(self.rows * (self.num_items + 1) + self.items)

    @cached_property
    def num_seen(self) -> Ints:
        """Distinct seen items of each history."""
        if len(self) == 1:
            return np.array([len(self.seen_keys)])
        rows = self.seen_keys // (self.num_items + 1)
        return np.bincount(rows, minlength=len(self)).astype(np.int64)
