"""Which items compete for a place in each user's list: the whole catalogue but the excluded ones.

Shape suffixes: U users, V = num_items + 1 item columns (0 is padding), T targets, X exclusions.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

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

    def block(self, start: int, stop: int) -> "Candidates":
        """The candidates of users start..stop - 1, renumbered from 0."""
        width = self.num_items + 1
        first, last = np.searchsorted(self.keys, [start * width, stop * width])
        return Candidates(stop - start, self.num_items, self.keys[first:last] - start * width)

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
