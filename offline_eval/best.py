"""Scores of the whole catalogue -> the best candidates of each user, with every tie at the edge.

The scores are read once: the maximum of each chunk of columns shows which few chunks can hold one
of the k best, and only those are looked into. Exact, and several times as fast as partitioning.

Shape suffixes: U users, K ranks, V = num_items + 1 item columns, C chunks, M kept columns.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.candidates import Candidates, Scores

CHUNK = 64
"""Columns whose maximum is taken together."""
NOWHERE = -np.inf
"""Score of what is never listed."""


@dataclass(frozen=True, slots=True)
class Best:
    """The k best candidates of each user, best first, then all others that tie with the last."""

    items: NDArray[np.int64]
    """(U, M) dense ids, 0 behind the end."""
    scores: NDArray[np.float32]
    """(U, M), -inf behind the end."""

    @classmethod
    def of(cls, scores_UV: NDArray[np.float32], k: int, *, seed: int = 0) -> Self:
        """Of masked scores (`mask_scores`); raises InputError for nan.

        Equal scores stand in a random order of the items, the same for all users: item ids tell
        when an item first appeared, so deciding by id would favour old or new items.
        """
        num_users, num_columns = scores_UV.shape
        users_R, columns_R = _promising(scores_UV, min(k, num_columns))
        counts_U = np.bincount(users_R, minlength=num_users)
        place_R = np.arange(len(users_R)) - (np.cumsum(counts_U) - counts_U)[users_R]
        order_V = np.random.default_rng(seed).permutation(num_columns)
        keys_UM = np.full((num_users, max(int(counts_U.max(initial=0)), 1)), LAST)
        keys_UM[users_R, place_R] = _keys(scores_UV[users_R, columns_R], order_V[columns_R])
        keys_UM.sort(axis=1)
        column_V = np.empty(num_columns, np.int64)
        column_V[order_V] = np.arange(num_columns)
        known_UM = keys_UM != LAST
        places_UM = np.where(known_UM, keys_UM & LOW, np.uint64(0)).astype(np.int64)
        items_UM = np.where(known_UM, column_V[places_UM], 0)
        found_UM = np.take_along_axis(scores_UV, items_UM, axis=1)
        return cls(items_UM, np.where(known_UM, found_UM, np.float32(NOWHERE)))

    def lists(self, k: int) -> NDArray[np.int64]:
        """The first k items, padded with 0, (U, k)."""
        lists_UK = np.zeros((len(self.items), k), np.int64)
        found_UK = self.items[:, :k]
        lists_UK[:, : found_UK.shape[1]] = found_UK
        return lists_UK


LOW = np.uint64(0xFFFFFFFF)
LAST = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Sorts behind every key."""


def mask_scores(scores_UV: Scores, candidates: Candidates) -> NDArray[np.float32]:
    """The scores as float32, -inf for what is no candidate; float32 input is written to.

    Raises InputError where the shapes disagree.
    """
    expected = (candidates.num_users, candidates.num_items + 1)
    if scores_UV.shape != expected:
        raise InputError(
            f"scores of shape {scores_UV.shape}, expected {expected}: a row a user, a column a "
            "dense item id, column 0 unused"
        )
    masked_UV = np.ascontiguousarray(scores_UV, np.float32)
    masked_UV[:, 0] = NOWHERE
    masked_UV.reshape(-1)[candidates.keys] = NOWHERE
    return masked_UV


def _promising(
    scores_UV: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and column of every score that is among its user's k best or ties with the k-th.

    k chunks have a maximum of at least the k-th largest one, so at least k scores reach it.
    """
    num_users, num_columns = scores_UV.shape
    starts_C = np.arange(0, num_columns, CHUNK)
    maxima_UC = _chunk_maxima(scores_UV)
    if (bad_U := np.flatnonzero(np.isnan(maxima_UC).any(axis=1))).size:
        raise InputError(
            f"the scores of row {bad_U[0]} hold nan ({bad_U.size} of {num_users} rows do): "
            "an order needs numbers; did the model diverge?"
        )
    if k < len(starts_C):
        edge_U = np.partition(maxima_UC, len(starts_C) - k, axis=1)[:, -k]
    else:
        edge_U = np.full(num_users, NOWHERE, np.float32)
    users, chunks = np.nonzero((maxima_UC >= edge_U[:, None]) & (maxima_UC > NOWHERE))
    columns = starts_C[chunks][:, None] + np.arange(CHUNK)
    inside = columns < num_columns
    found = scores_UV[users[:, None], np.where(inside, columns, 0)]
    rows, offsets = np.nonzero(inside & (found >= edge_U[users][:, None]) & (found > NOWHERE))
    users_R, columns_R, found_R = users[rows], columns[rows, offsets], found[rows, offsets]
    kept_R = _reaches_kth(users_R, found_R, num_users, k)
    return users_R[kept_R], columns_R[kept_R]


def _chunk_maxima(scores_UV: NDArray[np.float32]) -> NDArray[np.float32]:
    """(U, C); nan where a chunk holds one."""
    num_users, num_columns = scores_UV.shape
    whole = num_columns // CHUNK * CHUNK
    maxima_UC = scores_UV[:, :whole].reshape(num_users, -1, CHUNK).max(axis=2)
    if whole == num_columns:
        return maxima_UC
    rest_U1 = scores_UV[:, whole:].max(axis=1, keepdims=True)
    return np.concatenate([maxima_UC, rest_U1], axis=1)


def _reaches_kth(
    users_R: NDArray[np.int64], found_R: NDArray[np.float32], num_users: int, k: int
) -> NDArray[np.bool_]:
    """Which of the found scores are at least their user's k-th largest; rows are sorted by user."""
    counts_U = np.bincount(users_R, minlength=num_users)
    width = int(counts_U.max(initial=0))
    if width <= k:
        return np.ones(len(users_R), bool)
    table_UM = np.full((num_users, width), np.float32(NOWHERE))
    starts_U = np.cumsum(counts_U) - counts_U
    table_UM[users_R, np.arange(len(users_R)) - starts_U[users_R]] = found_R
    kth_U = np.partition(table_UM, width - k, axis=1)[:, width - k]
    return found_R >= kth_U[users_R]


def _keys(scores_R: NDArray[np.float32], places_R: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Integers whose ascending order is descending score, then ascending place.

    IEEE floats order like integers once negative ones have all bits and others the sign flipped.
    """
    bits = (scores_R + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    sign = np.uint32(1 << 31)
    ascending = bits ^ np.where(bits & sign, np.uint32(0xFFFFFFFF), sign)
    return ((~ascending).astype(np.uint64) << np.uint64(32)) | places_R.astype(np.uint64)
