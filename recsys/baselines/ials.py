"""iALS: matrix factorisation of implicit feedback (Hu, Koren, Volinsky, ICDM 2008) by `implicit`.

Departs from the usual script in one point: the vector of a user is always solved from the given
history (fold-in), never looked up among those of training, so new events and new users count.
"""

from typing import Self

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.baselines.interface import Baseline, Interactions, Scores, num_rows, without_padding


class IALS(Baseline):
    """Item factors, and the least-squares problem that gives a history its vector."""

    def __init__(self, model: AlternatingLeastSquares) -> None:
        self._model = model
        self.item_factors: NDArray[np.float32] = np.asarray(model.item_factors)
        """(num_items + 1, dim) float32; row 0 is padding."""

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        dim: int = 128,
        regularization: float = 1.0,
        alpha: float = 3.0,
        iterations: int = 15,
        seed: int = 0,
    ) -> Self:
        """Alternate `iterations` times. alpha: weight of an observed pair against 1 for the rest.

        The same seed gives the same factors.
        """
        # implicit runs its own threads over rows: BLAS threads under them only wait on each other
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=dim,
                regularization=regularization,
                alpha=alpha,
                iterations=iterations,
                random_state=seed,
            )
            model.fit(interactions.matrix, show_progress=False)
        return cls(model)

    def scores(self, histories: csr_matrix) -> Scores:
        """Inner products with the folded-in vectors; 0 everywhere for an empty history."""
        with threadpool_limits(1, "blas"):
            vectors = self._model.recalculate_user(np.arange(num_rows(histories)), histories)
        return without_padding(vectors @ self.item_factors.T)
