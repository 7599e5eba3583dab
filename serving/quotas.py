"""Quotas: how many places of a list the values of a column may and must take.

Shape suffixes: B lists, N items of the window, V dense item ids, S values of a column, W values of
an item.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.topk import Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Limit:
    """A quota. values: (V, W) value ids that count, 0 for others; num_values bounds them."""

    values: Ints
    num_values: int
    at_most: int | None
    at_least: int
    within: int


class Tally:
    """How a quota stands while lists are being filled."""

    def __init__(self, limit: Limit, items_BN: Ints) -> None:
        self.limit = limit
        self.values_BNW = limit.values[items_BN]
        self.member_BN: Bools = np.any(self.values_BNW > 0, axis=2)
        self.counts_BS = np.zeros((len(items_BN), limit.num_values), np.int64)
        self.placed_B = np.zeros(len(items_BN), np.int64)

    def room(self, place: int) -> Bools | None:
        """Items that `at_most` permits at this place; None permits all."""
        limit = self.limit
        if limit.at_most is None or place >= limit.within:
            return None
        rows = np.arange(len(self.values_BNW))[:, None, None]
        full_BNW = self.counts_BS[rows, self.values_BNW] >= limit.at_most
        return np.logical_not((full_BNW & (self.values_BNW > 0)).any(axis=2))

    def missing(self, place: int) -> Ints:
        """Places that `at_least` still needs."""
        if place >= self.limit.within:
            return np.zeros(len(self.placed_B), np.int64)
        return np.maximum(self.limit.at_least - self.placed_B, 0)

    def take(self, picks_B: Ints) -> None:
        """Count what was picked."""
        rows = np.arange(len(picks_B))
        values_BW = self.values_BNW[rows, picks_B]
        np.add.at(self.counts_BS, (rows[:, None], values_BW), 1)
        self.placed_B += self.member_BN[rows, picks_B]


def permitted(tallies: list[Tally], free_BN: Bools, place: int) -> Bools:
    """Items that may take a place; where all that is left must serve `at_least`, only those."""
    allowed_BN = free_BN
    for tally in tallies:
        room_BN = tally.room(place)
        if room_BN is not None:
            allowed_BN = allowed_BN & room_BN
    demands = [tally for tally in tallies if place < tally.limit.within and tally.limit.at_least]
    if not demands:
        return allowed_BN
    left = min(tally.limit.within for tally in demands) - place
    missing = [tally.missing(place) for tally in demands]
    tight_B = sum(missing) >= left
    wanted_BN = np.zeros(free_BN.shape, np.bool_)
    for tally, missing_B in zip(demands, missing, strict=True):
        wanted_BN |= tally.member_BN & (missing_B > 0)[:, None]
    wanted_BN &= allowed_BN
    only_B = np.logical_and(tight_B, wanted_BN.any(axis=1))
    return np.where(only_B[:, None], wanted_BN, allowed_BN)
