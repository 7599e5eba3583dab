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
STRETCHES = 2
"""Per result asked for: more are slower to compare, fewer would leave more to sort."""
SHORTEST = 16
"""Entries of a stretch from which on looking at stretches pays."""
NOTHING = float("-inf")
"""Score of what may not be recommended."""


def top_k(scores_BV: Floats, k: int) -> tuple[Ints, Floats]:
    """Columns and scores of the k best of each row, best first; equal scores by column.

    Rows with fewer than k scores above -inf end in column 0 with score -inf. Column 0 is
    padding and must be -inf. Scores must not be nan.
    """
    if k >= scores_BV.shape[1]:
        return _in_order(scores_BV, k)
    if len(scores_BV) == 1:
        columns, found = _top_k_row(scores_BV[0], k)
        return pad_right(columns[None], k, 0), pad_right(found[None], k, NOTHING)
    columns_BK = np.zeros((len(scores_BV), k), np.int64)
    found_BK = np.full((len(scores_BV), k), NOTHING, np.float32)
    for row, scores_V in enumerate(scores_BV):
        columns, found = _top_k_row(scores_V, k)
        columns_BK[row, : len(columns)], found_BK[row, : len(found)] = columns, found
    return columns_BK, found_BK


def _in_order(scores_BV: Floats, k: int) -> tuple[Ints, Floats]:
    """All columns of each row, best first."""
    keys_BV = sort_keys(scores_BV, np.arange(scores_BV.shape[1]))
    keys_BV.sort(axis=1)
    columns_BK = (keys_BV & LOW).astype(np.int64)
    found_BK = np.take_along_axis(scores_BV, columns_BK, axis=1)
    columns_BK[found_BK == NOTHING] = 0
    return pad_right(columns_BK, k, 0), pad_right(found_BK, k, NOTHING)


def _top_k_row(scores_V: Floats, k: int) -> tuple[Ints, Floats]:
    """At most k columns of one row and their scores, best first; k < V."""
    threshold = _reached_by(scores_V, k)
    if threshold == NOTHING:  # leave the forbidden ones out
        columns = np.flatnonzero(scores_V > NOTHING)
    else:
        columns = np.flatnonzero(scores_V >= threshold)
    found = scores_V.take(columns)
    if len(found) > 4 * k:  # cheaper to find the k-th than to sort them all
        kept = found >= np.partition(found, len(found) - k)[len(found) - k]
        columns, found = columns[kept], found[kept]
    order = np.argsort(-found, kind="stable")[:k]  # columns ascend: ties keep their order
    return columns.take(order), found.take(order)


def _reached_by(scores_V: Floats, k: int) -> float:
    """A score that at least k entries reach, and not many more.

    Where the row is long, the k-th best of the maxima of stretches of it: k stretches reach that,
    and reading the row once is a tenth of the work of partitioning it (3,417 to 1 M entries).
    """
    size = len(scores_V) // (STRETCHES * k)
    if size < SHORTEST:
        edge = len(scores_V) - k
        return float(np.partition(scores_V, edge)[edge])
    count = len(scores_V) // size
    maxima = scores_V[: count * size].reshape(count, size).max(axis=1)
    return float(np.partition(maxima, count - k)[count - k])


def sort_keys(scores: Floats, items: Ints) -> NDArray[np.uint64]:
    """Integers whose ascending order is descending score, then ascending item.

    IEEE floats order like integers once negative ones have all bits and others the sign flipped.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    ascending = bits ^ np.where(bits & SIGN, ALL, SIGN)
    keys = (~ascending).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= items.astype(np.uint64)
    return keys


def scores_of(keys: NDArray[np.uint64]) -> Floats:
    """The scores in `sort_keys`."""
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    return (ascending ^ np.where(ascending & SIGN, SIGN, ALL)).view(np.float32)


def pad_right(array_BM: NDArray, k: int, fill: float) -> Any:
    """(B, k): the array with columns of `fill` behind its own. (numpy.pad costs 50 us a call.)"""
    width = array_BM.shape[1]
    if width == k:
        return array_BM
    result_BK = np.full((len(array_BM), k), fill, array_BM.dtype)
    result_BK[:, :width] = array_BM
    return result_BK


def chosen(array_BM: NDArray, columns_BK: Ints) -> Any:
    """(B, K): of each row the entries at its columns."""
    if len(array_BM) == 1:  # the same, in a fifth of the time
        return array_BM.take(columns_BK[0], axis=1)
    return np.take_along_axis(array_BM, columns_BK, axis=1)


def compress(
    arrays: Sequence[NDArray], fills: Sequence[float], keep_BM: NDArray[np.bool_], k: int
) -> list[Any]:
    """Of each (B, M) array the first k kept entries of each row, moved to the left; then `fill`."""
    if len(keep_BM) == 1:  # the same, quicker
        kept = np.flatnonzero(keep_BM[0])[:k]
        return [
            pad_right(array_BM.take(kept, axis=1), k, fill)
            for array_BM, fill in zip(arrays, fills, strict=True)
        ]
    column_BM = np.cumsum(keep_BM, axis=1) - 1
    rows, entries = np.nonzero(keep_BM & (column_BM < k))
    columns = column_BM[rows, entries]
    results = []
    for array_BM, fill in zip(arrays, fills, strict=True):
        result_BK = np.full((len(keep_BM), k), fill, array_BM.dtype)
        result_BK[rows, columns] = array_BM[rows, entries]
        results.append(result_BK)
    return results
