"""What every baseline is fitted on, and the one question it answers.

Matrices have a row a user and a column a dense item id: (U, num_items + 1), column 0 is padding.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Ints = NDArray[np.integer]
Scores = NDArray[np.float32]


def history_matrix(items: Ints, starts: Ints, ends: Ints, num_items: int) -> csr_matrix:
    """(B, num_items + 1) float32: 1 where the item is in the history, however often.

    items: (E,) dense ids. starts, ends: (B,) row numbers; history b is items[starts[b]:ends[b]].
    """
    lengths = ends - starts
    total = int(lengths.sum())
    users = np.repeat(np.arange(len(starts)), lengths)
    offsets = np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns = items[np.repeat(starts, lengths) + np.arange(total) - offsets]
    shape = (len(starts), num_items + 1)
    matrix = csr_matrix((np.ones(total, np.float32), (users, columns)), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


@dataclass(frozen=True)
class Interactions:
    """The training events, jagged: user u has the rows [starts[u], ends[u]) of items, timestamps.

    items: (E,) dense ids 1..num_items. timestamps: (E,) int64 microseconds. The value arrays may
    hold rows of no user (later splits of a memory-mapped dataset): these are never read.
    """

    items: Ints
    timestamps: Ints
    starts: Ints
    ends: Ints
    num_items: int

    @cached_property
    def matrix(self) -> csr_matrix:
        """(U, num_items + 1) float32: 1 where the user met the item."""
        return history_matrix(self.items, self.starts, self.ends, self.num_items)

    @cached_property
    def _rows(self) -> NDArray[np.bool_]:
        edges = np.zeros(len(self.items) + 1, np.int64)
        np.add.at(edges, self.starts, 1)
        np.add.at(edges, self.ends, -1)
        return np.cumsum(edges[:-1]) > 0

    def events(self) -> tuple[Ints, Ints]:
        """Items and timestamps of the users' rows only, (E',) each."""
        return self.items[self._rows], self.timestamps[self._rows]


class Baseline(ABC):
    """A fitted baseline. `fit` is the way in; its keyword options have the only defaults."""

    @classmethod
    @abstractmethod
    def fit(cls, interactions: Interactions) -> Self:
        """Learn from the training part."""

    @abstractmethod
    def scores(self, histories: csr_matrix) -> Scores:
        """(B, num_items + 1), higher is better, column 0 = -inf. histories: as `history_matrix`.

        Reads nothing of the users it was fitted on: a new user is answered like any other.
        Items already in the history are scored too; removing them is the caller's policy.
        """


def without_padding(scores: Scores) -> Scores:
    """The same array with -inf in column 0."""
    scores[:, 0] = -np.inf
    return scores


def dense(product: Any) -> Scores:
    """A sparse matrix as an array."""
    return np.asarray(product.toarray(), np.float32)


def num_rows(histories: csr_matrix) -> int:
    """Histories in a matrix."""
    return len(histories.indptr) - 1
