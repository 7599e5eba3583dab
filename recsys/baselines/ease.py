"""EASE: a linear item-item model in closed form (Steck, WWW 2019, arXiv:1905.03375).

    P = (X'X + lambda I)^-1,   B = I - P diag(1 / diag P)        (eq. 8)

B has a zero diagonal, so no item recommends itself. Time is cubic and memory quadratic in items.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse import csr_matrix

from recsys.baselines.interface import Baseline, Interactions, Scores, without_padding

MAX_ITEMS = 20_000
"""More are refused: 20,000 items take about 10 GB (three float64 squares) and minutes to invert."""


class EASE(Baseline):
    """Dense item-item weights."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = weights

    @classmethod
    def fit(cls, interactions: Interactions, *, l2: float = 200.0) -> Self:
        """Invert the Gram matrix. l2: lambda of the paper.

        Raises ValueError above MAX_ITEMS items.
        """
        if interactions.num_items > MAX_ITEMS:
            raise ValueError(
                f"EASE inverts a matrix of items x items: the data has {interactions.num_items} "
                f"items, at most {MAX_ITEMS} are possible; leave it out or raise min_item_events"
            )
        x = interactions.matrix.astype(np.float64)
        gram = (x.T @ x).toarray()
        np.fill_diagonal(gram, gram.diagonal() + l2)
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False, assume_a="pos")
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return cls(weights.astype(np.float32))

    def scores(self, histories: csr_matrix) -> Scores:
        """Sum of the weights of the history's items; 0 everywhere for an empty history."""
        return without_padding(np.asarray(histories @ self._weights, np.float32))
