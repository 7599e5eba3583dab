"""What a set of lists is like as a whole: how much of the catalogue it shows.

Shape suffixes: U users, K ranks of the list, V = num_items + 1 item columns (0 is padding).
"""

import math
from dataclasses import dataclass

import numpy as np

from offline_eval.metrics import Ints
from offline_eval.significance import Estimate, normal_interval


@dataclass
class ItemCounts:
    """How often each item was recommended, gathered block by block: memory grows with items only.

    Keeps the one user an item was shown to as long as there is only one, for the jackknife.
    """

    num_items: int

    def __post_init__(self) -> None:
        self.counts_V = np.zeros(self.num_items + 1, np.int64)
        self._last_user_V = np.full(self.num_items + 1, -1, np.int64)
        self.num_users = 0

    def add(self, lists_UK: Ints) -> None:
        """Count the lists of the next users; items are distinct within a list, 0 is padding."""
        users = self.num_users + np.repeat(np.arange(len(lists_UK)), lists_UK.shape[1])
        items = lists_UK.reshape(-1)
        self.counts_V += np.bincount(items, minlength=self.num_items + 1)
        self.counts_V[0] = 0
        self._last_user_V[items] = users
        self.num_users += len(lists_UK)

    def coverage(self) -> Estimate:
        """Share of the catalogue that at least one list holds, with a jackknife interval.

        Resampling users with replacement would lose items, so a bootstrap interval would lie below
        the figure itself. Leaving user u out loses exactly the items that only u was shown, s_u, so
        the jackknife variance of the number of items is (U - 1)/U * sum of (s_u - mean s)^2
        (Burnham & Overton, Biometrika 1978). It speaks of another U users, not of more users.
        """
        if not self.num_users:
            return Estimate(math.nan, math.nan, math.nan, 0, 0)
        shown = int(np.count_nonzero(self.counts_V))
        alone_U = np.bincount(self._last_user_V[self.counts_V == 1], minlength=self.num_users)
        deviations_U = alone_U - alone_U.mean()
        variance = (deviations_U @ deviations_U) * (self.num_users - 1) / self.num_users
        low, high = normal_interval(shown, math.sqrt(variance))
        value, low, high = (x / self.num_items for x in (shown, max(low, 0.0), high))
        return Estimate(value, low, min(high, 1.0), self.num_users, 0)
