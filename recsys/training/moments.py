"""Moments to learn ranking from: a history as it was, the item chosen then, items that were not.

1. A moment is an event of a target behaviour; its history ends before it. It is two row numbers of
   the jagged store, so nothing is copied and histories overlap freely.
2. A user gives several moments: the most recent ones, every `stride`-th.
3. Negatives are drawn by popularity in the training part, and drawn again where the user chooses
   the item later (or ever did). What cannot be replaced after some rounds is left out.

Shape suffixes: U users, R moments, N negatives, E events.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from recsys.training.batches import rows_between, target_codes
from recsys.training.config import RankingConfig

ROUNDS = 20
"""Draws of a negative before it is left out."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Moments:
    """R moments. users: (R,) row of the user. starts, cuts: (R,) rows in the event arrays, the
    history is [starts, cuts). rows: (R,) row of the target event, at or after the cut.
    """

    users: Ints
    starts: Ints
    cuts: Ints
    rows: Ints

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: Ints | slice) -> "Moments":
        """Some of the moments."""
        return Moments(
            self.users[chosen], self.starts[chosen], self.cuts[chosen], self.rows[chosen]
        )

    def histories(self, data: Dataset) -> Histories:
        """The histories, sharing the dataset's values."""
        return Histories(data.items, data.timestamps, data.events, self.starts, self.cuts)

    @classmethod
    def of(cls, data: Dataset, config: RankingConfig, firsts_U: Ints, ends_U: Ints) -> "Moments":
        """The moments of each user whose target lies in rows [firsts, ends)."""
        starts_U = data.cuts["start"]
        user_E, row_E = rows_between(firsts_U, ends_U)
        chosen = np.isin(data.events[row_E], target_codes(data.schema))
        if data.schema.cold_targets == "drop":
            chosen &= data.items[row_E] <= data.schema.num_warm_items
        user_E, row_E = user_E[chosen], row_E[chosen]
        cut_E = row_E
        if config.simultaneous == "hidden":
            cut_E = first_of_the_same_time(data.timestamps, starts_U)[row_E]
        known_E = cut_E - starts_U[user_E] >= config.min_history
        kept = most_recent(user_E, known_E, len(starts_U), config)
        user_R = user_E[kept]
        return cls(user_R, starts_U[user_R], cut_E[kept], row_E[kept])


def most_recent(
    users_E: Ints, known_E: NDArray[np.bool_], num_users: int, config: RankingConfig
) -> Ints:
    """Places of those that `config` keeps of the `known` moments, ordered by user and time."""
    place_E = np.flatnonzero(known_E)
    user_E = users_E[place_E]
    count_U = np.bincount(user_E, minlength=num_users)
    before_E = (np.cumsum(count_U) - count_U)[user_E]
    newer_E = count_U[user_E] - 1 - (np.arange(len(user_E)) - before_E)
    kept = newer_E % config.stride == 0
    if config.targets_per_user:
        kept &= newer_E < config.stride * config.targets_per_user
    return place_E[kept]


def training_moments(data: Dataset, config: RankingConfig) -> Moments:
    """Moments whose target is a training event. Raises InputError where there is none."""
    found = Moments.of(data, config, data.cuts["start"], data.cuts["train_end"])
    if not len(found):
        raise InputError(
            f"{data.path} has no training event of {list(data.schema.target_events)} with "
            f"{config.min_history} events before it: nothing can be ranked"
        )
    return found


def first_of_the_same_time(timestamps_E: Ints, starts_U: Ints) -> Ints:
    """Row of the first event of the same user and time, (E,)."""
    new_E = np.ones(len(timestamps_E), np.bool_)
    new_E[1:] = timestamps_E[1:] != timestamps_E[:-1]
    new_E[starts_U[starts_U < len(new_E)]] = True
    return np.maximum.accumulate(np.where(new_E, np.arange(len(new_E)), 0))


class Chosen:
    """Which items users choose, and when for the last time, up to an end."""

    def __init__(self, data: Dataset, ends_U: Ints) -> None:
        user_E, row_E = rows_between(data.cuts["start"], ends_U)
        self._width = data.schema.num_items + 1
        keys_E = user_E * self._width + data.items[row_E]
        order = np.argsort(keys_E, kind="stable")
        keys_E, row_E = keys_E[order], row_E[order]
        last = np.append(keys_E[1:] != keys_E[:-1], True)[: len(keys_E)]
        self._keys, self._rows = keys_E[last], row_E[last]

    def since(self, users: Ints, items: Ints, rows: Ints) -> NDArray[np.bool_]:
        """Whether the user chooses the item in a row at or after `rows`; all of one shape."""
        keys = users * self._width + items
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return (self._keys[place] == keys) & (self._rows[place] >= rows)


class NegativeSampler:
    """Draws items that a user did not choose."""

    def __init__(self, data: Dataset, config: RankingConfig, chosen: Chosen) -> None:
        _, rows = rows_between(data.cuts["start"], data.cuts["train_end"])
        counts_V = np.bincount(data.items[rows], minlength=data.schema.num_items + 1)
        if config.sampling == "uniform":
            counts_V = (counts_V > 0).astype(np.int64)
        self._cumulative_N = np.cumsum(counts_V[1:]) / counts_V[1:].sum()
        self._chosen, self._config = chosen, config

    def draw(self, moments: Moments, draw: np.random.Generator) -> Ints:
        """Item ids (R, N), each independently; 0 where every draw was one the user chooses."""
        shape = (len(moments), self._config.negatives)
        users = np.broadcast_to(moments.users[:, None], shape)
        since = moments.cuts if self._config.reject == "future" else moments.starts
        rows = np.broadcast_to(since[:, None], shape)
        items, open_ = np.zeros(shape, np.int64), np.ones(shape, np.bool_)
        for _ in range(ROUNDS):
            wanted = int(open_.sum())
            if not wanted:
                break
            found = np.searchsorted(self._cumulative_N, draw.random(wanted), side="right") + 1
            found = np.minimum(found, len(self._cumulative_N))
            refused = self._chosen.since(users[open_], found, rows[open_])
            items[open_] = np.where(refused, 0, found)
            open_[open_] = refused
        return items
