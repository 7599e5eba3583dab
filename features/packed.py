"""The values of all categorical columns of an item side by side, for questions of one history.

A request meets each column of some hundred items: one look-up for all columns waits for memory
once. The sums are those of `features.question.Attribute`, added in the same order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.layout import ItemColumn

KINDS = ("category", "categories")


@dataclass(frozen=True, slots=True)
class PackedColumns:
    """Columns told apart by an offset; 0 stands for every value that a vocabulary lacks."""

    cells: NDArray[np.int32]
    """(V, W) of all columns together; 4 bytes each."""
    places: Mapping[str, slice]
    """Where each column stands."""
    num_cells: int

    @classmethod
    def of(
        cls, columns: Sequence[ItemColumn], item_table: Mapping[str, NDArray]
    ) -> "PackedColumns | None":
        """None where no column is categorical."""
        packed = [column for column in columns if column.kind in KINDS]
        if not packed:
            return None
        width, offset = 0, 0
        places: dict[str, slice] = {}
        size = len(item_table[packed[0].name])
        cells_VW = np.zeros((size, sum(column.width for column in packed)), np.int32)
        for column in packed:
            place = places[column.name] = slice(width, width + column.width)
            values = item_table[column.name].reshape(size, column.width)
            np.add(values, offset, out=cells_VW[:, place], where=values > 1)
            width, offset = place.stop, offset + column.size
        return cls(cells_VW, places, offset)

    def ask(self, items_H: NDArray[np.int64], items_C: NDArray[np.int64]) -> "PackedQuestion":
        """The values of a history's events and of the candidates."""
        events_HW = self.cells.take(items_H, axis=0)
        candidates_CW = self.cells.take(items_C, axis=0).astype(np.int64)
        known_HW, known_CW = events_HW > 0, candidates_CW > 0
        valued, num_known = {}, {}
        for name, place in self.places.items():
            valued_H, num_known_C = known_HW[:, place.start], known_CW[:, place.start]
            for w in range(place.start + 1, place.stop):
                valued_H = valued_H | known_HW[:, w]
                num_known_C = num_known_C + known_CW[:, w].astype(np.int64)
            valued[name], num_known[name] = valued_H, num_known_C
        return PackedQuestion(self, events_HW, candidates_CW, valued, num_known)


@dataclass(frozen=True, slots=True)
class PackedQuestion:
    """One history and its candidates."""

    packed: PackedColumns
    events: NDArray[np.int32]
    """(H, W) values of each event."""
    candidates: NDArray[np.int64]
    """(C, W) and of each candidate."""
    valued: Mapping[str, NDArray[np.bool_]]
    """By column whether each event has a known value, (H,)."""
    num_known: Mapping[str, NDArray]
    """By column the known values of each candidate, (C,)."""

    def shares(self, weights_H: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """By column what `value_share` is, (1, C)."""
        cells = self.events.reshape(-1)
        weights = weights_H.repeat(self.events.shape[1])
        counts = np.bincount(cells, weights, minlength=self.packed.num_cells)
        counts[0] = 0
        summed_CW = counts.take(self.candidates)
        owner_H = np.zeros(len(weights_H), np.int64)
        found = {}
        for name, place in self.packed.places.items():
            sum_C = summed_CW[:, place.start]
            for w in range(place.start + 1, place.stop):
                sum_C = sum_C + summed_CW[:, w]
            total = np.bincount(owner_H, weights_H * self.valued[name], 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[name] = (sum_C / (self.num_known[name] * total))[None]
        return found
