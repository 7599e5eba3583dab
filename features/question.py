"""What several ranking features need of a question, computed once for a block of questions.

A question is a user's history, a moment `at`, candidate items and what the sources say of them.
Shapes: B questions, C candidates each, H events of all B histories together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from features.layout import ItemColumn
from features.timeline import ItemTimeline

Ints = NDArray[np.integer]
Floats = NDArray[np.floating]
SESSION_GAP = 30 * 60 * 1_000_000
"""Microseconds without an event after which a visit is over."""

HALF_LIFE = 10
"""Events after which an event of the history weighs half in the `recent` features."""


Weighing = Literal["alike", "recent", "session"]
"""What an event of the history counts: 1, half of what the one `HALF_LIFE` events later does, or 1
where it belongs to the visit that goes on."""
Compute = Callable[["Question"], NDArray]
"""Broadcasts to (B, C)."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the ranker's input."""

    name: str
    meaning: str
    compute: Compute
    of_item: bool = False
    """Follows from the candidate and the day alone: can be computed before anybody asks."""


class Question:
    """B questions, and what several features need of them, computed once."""

    def __init__(
        self,
        histories: Histories,
        at: Ints,
        candidates: Ints,
        source_scores: Mapping[str, Floats],
        timeline: ItemTimeline,
        item_table: Mapping[str, NDArray],
    ) -> None:
        self.at_B = np.asarray(at, np.int64)
        self.candidates_BC = np.asarray(candidates, np.int64)
        self.source_scores = source_scores
        self.timeline = timeline
        self.item_table = item_table
        self._attributes: dict[str, Attribute] = {}
        self.lengths_B = histories.lengths
        rows_H: NDArray[np.int64] | slice
        if len(histories) == 1:  # a request: its events are a slice
            rows_H = slice(int(histories.starts[0]), int(histories.ends[0]))
            self.owner_H = np.zeros(rows_H.stop - rows_H.start, np.int64)
            self.ends_B, self.starts_B = self.lengths_B, np.zeros(1, np.int64)
        else:
            self.owner_H = np.repeat(np.arange(len(histories)), self.lengths_B)
            self.ends_B = np.cumsum(self.lengths_B)
            self.starts_B = self.ends_B - self.lengths_B
            rows_H = np.arange(len(self.owner_H)) + np.repeat(
                histories.starts - self.starts_B, self.lengths_B
            )
        self.items_H = np.asarray(histories.items[rows_H], np.int64)
        self.timestamps_H = np.asarray(histories.timestamps[rows_H], np.int64)
        self.events_H = np.asarray(histories.events[rows_H])

    def attribute(self, column: ItemColumn) -> "Attribute":
        """Values of a column. Looked up once: several features want each."""
        if (found := self._attributes.get(column.name)) is None:
            table = self.item_table[column.name]
            found = self._attributes[column.name] = Attribute.of(self, table, column)
        return found

    def event_time(self, rows_B: Ints) -> Floats:
        """Microseconds of an event per question, nan where the history is empty or undated."""
        if len(self.at_B) == 1:  # the same, quicker
            last = len(self.timestamps_H) - 1
            known = int(self.timestamps_H[min(max(rows_B[0], 0), last)]) if last >= 0 else 0
            return np.array([known or np.nan], np.float64)
        if not len(self.timestamps_H):
            return np.full(rows_B.shape, np.nan)
        times = self.timestamps_H[np.minimum(np.maximum(rows_B, 0), len(self.timestamps_H) - 1)]
        return np.where((self.lengths_B > 0) & (times != 0), times, np.nan)

    @cached_property
    def last_time_B(self) -> Floats:  # noqa: N802 - a shape suffix
        """Microseconds of the last event, nan where there is none or it is undated."""
        return self.event_time(self.ends_B - 1)

    def weights(self, weighing: Weighing) -> NDArray[np.float64]:
        """(H,): what each event counts."""
        match weighing:
            case "alike":
                return np.ones(len(self.owner_H))
            case "recent":
                return self.recency_H
            case "session":
                return self.in_session_H.astype(np.float64)

    @cached_property
    def recency_H(self) -> NDArray[np.float64]:  # noqa: N802 - a shape suffix
        """(H,): 0.5 ^ (events after this one / HALF_LIFE)."""
        after_H = np.repeat(self.ends_B, self.lengths_B) - 1 - np.arange(len(self.owner_H))
        return 0.5 ** (after_H / HALF_LIFE)

    @cached_property
    def day(self) -> NDArray[np.int64]:
        """(B, 1): first day that no statistic may count."""
        return self.timeline.known_day(self.at_B)[:, None]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(3, B, C): timeline rows of the candidates before the day, 7 and 30 days before it."""
        days_WB1 = self.day - np.array([0, 7, 30])[:, None, None]
        return self.timeline.rows_before(self.candidates_BC, days_WB1)

    @cached_property
    def totals(self) -> NDArray[np.int64]:
        """(3, B, C): events of the candidates before the day, 7 and 30 days before it."""
        return self.timeline.total[self.rows]

    @cached_property
    def all_items_30d(self) -> NDArray[np.int64]:
        """(B, 1): events of all items in the 30 days."""
        none = np.zeros_like(self.day)
        rows = self.timeline.rows_before(none, np.stack([self.day, self.day - 30]))
        until, before = self.timeline.total[rows]
        return until - before

    @cached_property
    def session_starts_B(self) -> NDArray[np.int64]:  # noqa: N802 - a shape suffix
        """First row of the visit that goes on at `at`; `ends_B` where none does."""
        next_H = np.append(self.timestamps_H[1:], 0)
        last = self.ends_B[self.lengths_B > 0] - 1
        next_H[last] = self.at_B[self.lengths_B > 0]
        breaks = np.flatnonzero(next_H - self.timestamps_H > SESSION_GAP)
        starts = self.starts_B.copy()
        np.maximum.at(starts, self.owner_H[breaks], breaks + 1)
        return starts

    @cached_property
    def in_session_H(self) -> NDArray[np.bool_]:  # noqa: N802 - a shape suffix
        """Whether each event belongs to the visit that goes on at `at`."""
        return np.arange(len(self.owner_H)) >= self.session_starts_B[self.owner_H]

    @cached_property
    def key_width(self) -> int:
        """A question and an item are the one number question * key_width + item."""
        return int(max(self.items_H.max(initial=0), self.candidates_BC.max(initial=0))) + 1

    @cached_property
    def sorted_keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Question and item of every event as one number, ascending, and the rows in that order:
        within a number the oldest event comes first. Both (H,).
        """
        keys_H = self.items_H
        if len(self.at_B) > 1:
            keys_H = self.owner_H * self.key_width + self.items_H
        order_H = np.argsort(keys_H, kind="stable")
        return keys_H[order_H], order_H

    @cached_property
    def seen(self) -> tuple[NDArray[np.int64], Floats]:
        """How often each candidate is in the history, and microseconds of the last time: (B, C),
        or (B, 1) where none is.
        """
        keys_H, order_H = self.sorted_keys
        wanted_BC = self.candidates_BC
        if len(self.at_B) > 1:
            wanted_BC = wanted_BC + np.arange(len(self.at_B))[:, None] * self.key_width
        left_BC = keys_H.searchsorted(wanted_BC)
        found = np.zeros(left_BC.shape, np.bool_)
        if len(keys_H):
            found = keys_H.take(left_BC, mode="clip") == wanted_BC
        if not found.any():  # as where the seen are left out
            shape = (len(self.at_B), 1)
            return np.zeros(shape, np.int64), np.full(shape, np.nan)
        times_BC, last_BC = np.zeros(left_BC.shape, np.int64), np.full(left_BC.shape, np.nan)
        right = keys_H.searchsorted(wanted_BC[found], side="right")
        times_BC[found] = right - left_BC[found]
        last_BC[found] = self.timestamps_H[order_H[right - 1]]
        last_BC[last_BC == 0] = np.nan
        return times_BC, last_BC


@dataclass(frozen=True, slots=True)
class Attribute:
    """The values of a column that a question meets, W of them an item."""

    valued: NDArray[np.bool_]
    """(H,) whether the event has a value that the vocabulary knows."""
    events: NDArray[np.int64]
    """Event of each known value of the history."""
    cells: NDArray[np.int64]
    """Those values, B times the column's size told apart."""
    wanted: tuple[NDArray[np.int64], ...]
    """W times (B, C): those of the candidates, known or not."""
    num_known: NDArray
    """(B, C) known values of each candidate."""
    num_cells: int

    @classmethod
    def of(cls, question: Question, table: NDArray, column: ItemColumn) -> "Attribute":
        """Look the values up: those above 1 are known."""
        num_questions, size, width = len(question.at_B), column.size, column.width
        rows_NW = table.reshape(-1, width)
        values_HW = rows_NW.take(question.items_H, axis=0)
        known_HW = values_HW > 1
        cells_HW = values_HW.astype(np.int64)
        cells_BCW = rows_NW.take(question.candidates_BC, axis=0).astype(np.int64)
        cells = [cells_BCW[:, :, w] for w in range(width)]
        num_known_BC = cells[0] > 1
        for more in cells[1:]:
            num_known_BC = num_known_BC + (more > 1).astype(np.int64)
        if num_questions > 1:
            cells_HW += question.owner_H[:, None] * size
            cells_BCW += (np.arange(num_questions) * size)[:, None, None]
        valued_H = known_HW[:, 0] if width == 1 else np.logical_or.reduce(known_HW, axis=1)
        events = np.flatnonzero(known_HW) // width
        return cls(
            valued_H, events, cells_HW[known_HW], tuple(cells), num_known_BC, num_questions * size
        )


def value_share(q: Question, column: ItemColumn, weighing: Weighing) -> Floats:
    """Share of the history's weight that carries each of the candidate's values: their mean.

    (B, C). Only events of known value count, and nan means that there are none.
    """
    found, weights_H = q.attribute(column), q.weights(weighing)
    counts = np.bincount(found.cells, weights_H[found.events], minlength=found.num_cells)
    totals_B = np.bincount(q.owner_H, weights_H * found.valued, minlength=len(q.at_B))
    summed_BC = counts.take(found.wanted[0])  # unknown values count 0
    for cells_BC in found.wanted[1:]:
        summed_BC += counts.take(cells_BC)
    with np.errstate(invalid="ignore", divide="ignore"):
        return summed_BC / (found.num_known * totals_B[:, None])
