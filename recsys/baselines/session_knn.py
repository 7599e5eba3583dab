"""Session-kNN (Jannach & Ludewig, RecSys 2017): what followed in the sessions most like this one.

A session is the set of its items, likeness the cosine of two such sets. An item scores the summed
likeness of the nearest training sessions that hold it. Departures: the nearest are sought among all
training sessions, not among a recent sample; all items of the history count the same.
"""

from typing import Self

import numpy as np
from scipy.sparse import csr_matrix, diags

from recsys.baselines.interface import (
    Baseline,
    Interactions,
    Scores,
    dense,
    num_rows,
    without_padding,
)


class SessionKNN(Baseline):
    """The training sessions (histories), asked for the nearest."""

    def __init__(self, sessions: csr_matrix, num_neighbours: int) -> None:
        self._sessions, self._num_neighbours = sessions, num_neighbours
        self._unit = _unit_rows(sessions).T.tocsr()

    @classmethod
    def fit(cls, interactions: Interactions, *, num_neighbours: int = 100) -> Self:
        """Keep every training history; `num_neighbours` of them answer a question."""
        return cls(interactions.matrix, num_neighbours)

    def scores(self, histories: csr_matrix) -> Scores:
        """Summed cosine of the nearest sessions that hold the item; 0 where none does."""
        likeness = csr_matrix(_unit_rows(histories) @ self._unit)
        return without_padding(dense(self._nearest(likeness) @ self._sessions))

    def _nearest(self, likeness: csr_matrix) -> csr_matrix:
        """The greatest `num_neighbours` of each row; equal ones in the order of training."""
        data = np.asarray(likeness.data, np.float32)  # the matrix's own values: no copy
        for row in range(num_rows(likeness)):
            values = data[likeness.indptr[row] : likeness.indptr[row + 1]]
            if len(values) > self._num_neighbours:
                columns = likeness.indices[likeness.indptr[row] : likeness.indptr[row + 1]]
                values[np.lexsort((columns, -values))[self._num_neighbours :]] = 0
        likeness.eliminate_zeros()
        return likeness


def _unit_rows(matrix: csr_matrix) -> csr_matrix:
    """Rows of length 1; empty rows stay empty."""
    counts = np.diff(matrix.indptr)
    return csr_matrix(diags(1 / np.sqrt(np.maximum(counts, 1)).astype(np.float32)) @ matrix)
