"""The best k of scores that come a chunk of the catalogue at a time: `top_k` without ever holding
a score for every item.

Shape suffixes: B histories, C items of a chunk, K results, N entries that may be among the best.
"""

import numpy as np
from numpy.typing import NDArray

from serving.topk import (
    LOW,
    NOTHING,
    SHORTEST,
    STRETCHES,
    Floats,
    Ints,
    scores_of,
    sort_keys,
    top_k,
)

MOST = 8
"""Entries kept of a chunk per result asked for; where more reach the threshold, as where most
scores are equal, the chunk is sorted out row by row."""
LEAST = np.finfo(np.float32).min
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Greater than the key of any score."""


class RunningTop:
    """The k best of each of B histories so far; equal scores by item id.

    An entry is one number: the bits of its score, the greater the smaller, then its item. So the
    best are the least, and ties are decided the same way in whatever chunks the items come.
    """

    def __init__(self, rows: int, k: int) -> None:
        self._keys_BK = np.full((rows, k), NO_KEY)
        self._worst_B = np.full(rows, LEAST)

    def add(self, scores_CB: Floats, first: int) -> None:
        """Scores of the items first, first + 1, ...; -inf for what may not be recommended."""
        rows, k = self._keys_BK.shape
        floor_B = self._floor(scores_CB, k)
        if floor_B is None:
            self._merge(_best_keys(scores_CB, first, k))
            return
        entries_N = np.flatnonzero((scores_CB >= floor_B).reshape(-1))
        if len(entries_N) > MOST * k * rows:
            self._merge(_best_keys(scores_CB, first, k))
            return
        items_N, rows_N = np.divmod(entries_N, rows)
        keys_N = sort_keys(scores_CB.reshape(-1)[entries_N], items_N + first)
        self._merge(_by_row(keys_N, rows_N, rows))

    def best(self) -> tuple[Ints, Floats]:
        """(B, K) items and scores, best first; item 0 with score -inf where there is no more."""
        keys_BK = np.sort(self._keys_BK, axis=1)
        items_BK, scores_BK = (keys_BK & LOW).astype(np.int64), scores_of(keys_BK)
        nothing_BK = keys_BK == NO_KEY
        items_BK[nothing_BK], scores_BK[nothing_BK] = 0, NOTHING
        return items_BK, scores_BK

    def _merge(self, keys_BM: NDArray[np.uint64]) -> None:
        k = self._keys_BK.shape[1]
        if not keys_BM.shape[1]:
            return
        both = np.concatenate([self._keys_BK, keys_BM], axis=1)
        both.partition(k - 1, axis=1)
        self._keys_BK = both[:, :k].copy()
        worst_B = both[:, k - 1]
        self._worst_B = np.where(worst_B == NO_KEY, LEAST, scores_of(worst_B))

    def _floor(self, scores_CB: Floats, k: int) -> Floats | None:
        """(B,) scores that k entries of each history reach, and not many more: those of what was
        found before, or of the first chunk the k-th of the maxima of its stretches. None where it
        is too short to have enough of them.
        """
        if (self._worst_B > LEAST).all():
            return self._worst_B
        size = len(scores_CB) // (STRETCHES * k)
        if size < SHORTEST:
            return None
        count = len(scores_CB) // size
        maxima_SB = scores_CB[: count * size].reshape(count, size, -1).max(axis=1)
        reached_B = np.partition(np.ascontiguousarray(maxima_SB.T), count - k)[:, count - k]
        return np.maximum(self._worst_B, reached_B)


def _best_keys(scores_CB: Floats, first: int, k: int) -> NDArray[np.uint64]:
    """The k best of each history, however many are equal."""
    padded_BV = np.full((scores_CB.shape[1], len(scores_CB) + 1), NOTHING, np.float32)
    padded_BV[:, 1:] = scores_CB.T
    columns_BK, found_BK = top_k(padded_BV, min(k, len(scores_CB)))
    keys_BK = sort_keys(found_BK, columns_BK - 1 + first)
    return np.where(found_BK == NOTHING, NO_KEY, keys_BK)


def _by_row(keys_N: NDArray[np.uint64], rows_N: Ints, rows: int) -> NDArray[np.uint64]:
    """(B, M): each row's keys from the left, then `NO_KEY`."""
    counts_B = np.bincount(rows_N, minlength=rows)
    keys_BM = np.full((rows, int(counts_B.max(initial=0))), NO_KEY)
    order = np.argsort(rows_N.astype(np.min_scalar_type(rows)), kind="stable")  # a radix sort
    rows_N = rows_N[order]
    places_N = np.arange(len(order)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    keys_BM[rows_N, places_N] = keys_N[order]
    return keys_BM
