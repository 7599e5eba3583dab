"""The best k of a matrix of scores, with ties decided by item id, so that answers are repeatable.

Shape suffixes: B histories, V columns, K results.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SIGN = np.uint32(1 << 31)
ALL = np.uint32(0xFFFFFFFF)
LOW = np.uint64(0xFFFFFFFF)
NOTHING = float("-inf")
"""Score of what may not be recommended."""


def top_k(scores_BV: Floats, k: int) -> tuple[Ints, Floats]:
    """Columns and scores of the k best of each row, best first; equal scores by column.

    Rows with fewer than k scores above -inf end in column 0 with score -inf. Column 0 is
    padding and must be -inf. Scores must not be nan.
    """
    width = scores_BV.shape[1]
    if len(scores_BV) == 1 and k < width:
        return _top_k_single(scores_BV[0], k)
    keys_BV = _sort_keys(scores_BV)
    if k < width:
        keys_BV = np.partition(keys_BV, k - 1, axis=1)[:, :k]
    keys_BV.sort(axis=1)
    columns_BK = (keys_BV & LOW).astype(np.int64)
    found_BK = np.take_along_axis(scores_BV, columns_BK, axis=1)
    columns_BK[found_BK == NOTHING] = 0
    return pad_right(columns_BK, k, 0), pad_right(found_BK, k, NOTHING)


def _top_k_single(scores_V: Floats, k: int) -> tuple[Ints, Floats]:
    """The same for one row, in half the time: everything from the k-th score on is sorted."""
    edge = len(scores_V) - k
    threshold = np.partition(scores_V, edge)[edge]
    if threshold == NOTHING:  # fewer than k: leave the forbidden ones out
        columns = np.flatnonzero(scores_V > NOTHING)
    else:
        columns = np.flatnonzero(scores_V >= threshold)
    found = scores_V[columns]
    order = np.lexsort((columns, -found))[:k]
    if len(order) == k:
        return columns[order][None], found[order][None]
    padded = np.zeros((1, k), np.int64)
    scores = np.full((1, k), NOTHING, np.float32)
    padded[0, : len(order)], scores[0, : len(order)] = columns[order], found[order]
    return padded, scores


def _sort_keys(scores_BV: Floats) -> NDArray[np.uint64]:
    """(B, V) integers whose ascending order is descending score, then ascending column.

    IEEE floats order like integers once negative ones have all bits and others the sign flipped.
    """
    bits = (scores_BV + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    ascending = bits ^ np.where(bits & SIGN, ALL, SIGN)
    keys = (~ascending).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(scores_BV.shape[1], dtype=np.uint64)
    return keys


def pad_right(array_BM: NDArray, k: int, fill: float) -> Any:
    """(B, k): the array with columns of `fill` behind its own. (numpy.pad costs 50 us a call.)"""
    width = array_BM.shape[1]
    if width == k:
        return array_BM
    result_BK = np.full((len(array_BM), k), fill, array_BM.dtype)
    result_BK[:, :width] = array_BM
    return result_BK


def compress(
    arrays: Sequence[NDArray], fills: Sequence[float], keep_BM: NDArray[np.bool_], k: int
) -> list[Any]:
    """Of each (B, M) array the first k kept entries of each row, moved to the left; then `fill`."""
    column_BM = np.cumsum(keep_BM, axis=1) - 1
    rows, entries = np.nonzero(keep_BM & (column_BM < k))
    columns = column_BM[rows, entries]
    results = []
    for array_BM, fill in zip(arrays, fills, strict=True):
        result_BK = np.full((len(keep_BM), k), fill, array_BM.dtype)
        result_BK[rows, columns] = array_BM[rows, entries]
        results.append(result_BK)
    return results
