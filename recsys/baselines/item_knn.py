"""Item-kNN (Sarwar et al., WWW 2001) through `implicit`.

An item scores the sum of its similarities to the items of the history; each item of the history
votes for its nearest neighbours only.
"""

from typing import Literal, Self

import numpy as np
from implicit.nearest_neighbours import (
    ItemItemRecommender,
    bm25_weight,
    normalize,
    tfidf_weight,
)
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from recsys.baselines.interface import Baseline, Interactions, Scores, dense, without_padding

Similarity = Literal["cosine", "tfidf", "bm25"]


class ItemKNN(Baseline):
    """A sparse matrix of neighbours: row i holds the items that item i votes for."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        similarities: NDArray[np.float32],
    ) -> None:
        self.neighbours = (indptr, indices, similarities)
        """Indptr (num_items + 2,), indices and similarities (E,): the neighbours of each dense id,
        most similar first, never the item itself."""
        num_rows = len(indptr) - 1
        self._votes = csr_matrix((similarities, indices, indptr), (num_rows, num_rows))

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        similarity: Similarity = "tfidf",
        num_neighbours: int = 20,
    ) -> Self:
        """Find the `num_neighbours` most similar other items of each item (bm25: or one more).

        cosine: of the items' user vectors. tfidf: the same, with users of many items weighing less.
        bm25: inner products of BM25 weights (k1 = 1.2, b = 0.75).
        """
        items_users = interactions.matrix.T
        match similarity:
            case "cosine":
                weighted = normalize(items_users)
            case "tfidf":
                weighted = normalize(tfidf_weight(items_users))
            case "bm25":
                weighted = bm25_weight(items_users, 1.2, 0.75)  # pyright: ignore[reportArgumentType]
        # the classes of implicit by these names hand on a matrix that it then warns about
        model = ItemItemRecommender(K=num_neighbours + 1)  # the item itself is among them
        model.fit(csr_matrix(weighted.T), show_progress=False)
        return cls(*_most_similar_first(coo_matrix(model.similarity)))

    def scores(self, histories: csr_matrix) -> Scores:
        """Summed similarity; 0 where no item of the history votes."""
        return without_padding(dense(histories @ self._votes))


def _most_similar_first(
    found: coo_matrix,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """CSR arrays without the diagonal; equally similar items are in the order of their ids."""
    rows, columns, values = found.row, found.col, np.asarray(found.data, np.float32)
    others = rows != columns
    rows, columns, values = rows[others], columns[others], values[others]
    order = np.lexsort((columns, -values, rows))
    counts = np.bincount(rows, minlength=len(found.getnnz(axis=1)))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return indptr, columns[order].astype(np.int32), values[order]
