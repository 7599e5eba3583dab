"""Items that no model of attributes can tell apart, and what that costs at most.

Items of equal attributes get equal scores. In a list, the k best are then drawn from the tied ones:
a target with t - 1 twins is among the first k with a probability of at most min(1, k / t), as its
whole group can do no better than to stand first. The mean over targets bounds Recall@k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Collisions:
    """The groups of items with equal attributes."""

    groups: Ints
    """(N,) number of the group of each item 1..N."""
    sizes: Ints
    """Items in each group."""

    @classmethod
    def of(cls, item_table: Mapping[str, NDArray], names: Sequence[str]) -> "Collisions":
        """Group the items 1..N by the columns `names`, (N + 1, ...) each; nan equals nan."""
        columns = [np.nan_to_num(item_table[name][1:], nan=-1.0) for name in names]
        rows = np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)
        _, groups, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        return cls(groups.reshape(-1), sizes)

    @property
    def num_distinct(self) -> int:
        """Different combinations of attributes."""
        return len(self.sizes)

    @property
    def num_sharing(self) -> int:
        """Items that share theirs with another."""
        return int(self.sizes[self.sizes > 1].sum())

    def recall_bound(self, target_ids: Ints, k: int) -> float:
        """The greatest possible mean of "the target is among the first k", one target a case.

        target_ids: dense ids. Ties are broken at random.
        """
        sizes = self.sizes[self.groups[np.asarray(target_ids, np.int64) - 1]]
        return float(np.minimum(1.0, k / sizes).mean())
