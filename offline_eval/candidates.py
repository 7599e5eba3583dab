"""Which items compete for a place in each user's list: the whole catalogue but the excluded ones.

Shape suffixes: U users, V = num_items + 1 item columns (0 is padding), T targets, X exclusions.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.hits import sorted_distinct
from offline_eval.metrics import Bools, Ints

Scores = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Candidates:
    """All of 1..num_items, minus excluded pairs. Holds the exclusions only, not U x V flags."""

    num_users: int
    num_items: int
    keys: NDArray[np.int64]
    """user row * (num_items + 1) + item of each excluded pair, sorted, each once."""

    @classmethod
    def everything(cls, num_users: int, num_items: int) -> Self:
        """Nothing is excluded."""
        return cls(num_users, num_items, np.zeros(0, np.int64))

    @classmethod
    def without(cls, users_X: Ints, items_X: Ints, *, num_users: int, num_items: int) -> Self:
        """All but the given pairs, which may repeat."""
        keys = users_X.astype(np.int64) * (num_items + 1) + items_X
        return cls(num_users, num_items, sorted_distinct(keys))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Candidates of each user, (U,)."""
        users_X = self.keys // (self.num_items + 1)
        return self.num_items - np.bincount(users_X, minlength=self.num_users)

    def hold(self, users_T: Ints, items_T: Ints) -> Bools:
        """Whether each pair is a candidate."""
        keys_T = users_T.astype(np.int64) * (self.num_items + 1) + items_T
        if not len(self.keys):
            return np.ones(len(keys_T), bool)
        found_T = np.minimum(np.searchsorted(self.keys, keys_T), len(self.keys) - 1)
        return self.keys[found_T] != keys_T

    def mask(self) -> Bools:
        """Flags (U, V), column 0 False: for blocks of users only."""
        flags_UV = np.ones((self.num_users, self.num_items + 1), bool)
        flags_UV[:, 0] = False
        flags_UV.reshape(-1)[self.keys] = False
        return flags_UV


def top_lists(
    scores_UV: Scores, candidates: Candidates, k: int, *, seed: int = 0
) -> NDArray[np.int64]:
    """The k best candidates of each user, best first, (U, k) int64, padded with 0.

    Equal scores stand in a random order of the items, the same for all users: item ids tell when
    an item first appeared, so deciding ties by id would favour old or new items. Scores compare as
    float32; an item with score -inf is never listed. Raises InputError for nan.
    """
    if (bad_U := np.flatnonzero(np.isnan(scores_UV[:, 1:]).any(axis=1))).size:
        raise InputError(
            f"the scores of row {bad_U[0]} hold nan ({bad_U.size} of {len(scores_UV)} rows do): "
            "an order needs numbers; did the model diverge?"
        )
    order_V = np.random.default_rng(seed).permutation(scores_UV.shape[1])
    shuffled_UV = np.where(candidates.mask(), scores_UV, -np.inf).astype(np.float32)[:, order_V]
    keys_UV = _descending_keys(shuffled_UV)
    if k < keys_UV.shape[1]:
        keys_UV = np.partition(keys_UV, k - 1, axis=1)[:, :k]
    keys_UV.sort(axis=1)
    columns_UK = (keys_UV & np.uint64(0xFFFFFFFF)).astype(np.int64)
    found_UK = np.take_along_axis(shuffled_UV, columns_UK, axis=1)
    lists_UK = np.zeros((len(scores_UV), k), np.int64)
    lists_UK[:, : columns_UK.shape[1]] = np.where(found_UK > -np.inf, order_V[columns_UK], 0)
    return lists_UK


def _descending_keys(scores_UV: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Integers whose ascending order is descending score, then ascending column.

    IEEE floats order like integers once negative ones have all bits and others the sign flipped.
    """
    bits = (scores_UV + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    sign = np.uint32(1 << 31)
    ascending = bits ^ np.where(bits & sign, np.uint32(0xFFFFFFFF), sign)
    columns = np.arange(scores_UV.shape[1], dtype=np.uint64)
    return ((~ascending).astype(np.uint64) << np.uint64(32)) | columns
