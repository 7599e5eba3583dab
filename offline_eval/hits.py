"""Recommendation lists + truth -> hits, the form that `offline_eval.metrics` takes.

Shape suffixes: U users, K ranks of the list, best first, T targets (user-item pairs).
Lists hold dense item ids, from 1; a list shorter than K ends in 0.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.metrics import Bools, Ints

BLOCK = 1 << 16
"""Targets compared with their user's list at a time."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The relevant items of U users: `items[offsets[u] : offsets[u + 1]]`, sorted, each once."""

    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    """(U + 1,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, users_T: Ints, items_T: Ints, num_users: int) -> Self:
        """Truth from pairs in any order, with user rows 0..num_users - 1; repeats count once."""
        width = int(items_T.max(initial=0)) + 1
        pairs_T = sorted_distinct(users_T.astype(np.int64) * width + items_T)
        offsets = np.searchsorted(pairs_T, np.arange(num_users + 1) * width)
        return cls(pairs_T % width, offsets.astype(np.int64))

    @property
    def num_relevant(self) -> NDArray[np.int64]:
        """Relevant items per user."""
        return np.diff(self.offsets)

    @property
    def users(self) -> NDArray[np.int64]:
        """User row of each target."""
        return np.repeat(np.arange(len(self)), self.num_relevant)

    def block(self, start: int, stop: int) -> "Truth":
        """The truth of users start..stop - 1, renumbered from 0."""
        offsets = self.offsets[start : stop + 1]
        return Truth(self.items[offsets[0] : offsets[-1]], offsets - offsets[0])

    def select(self, kept_T: Bools) -> "Truth":
        """The truth without the targets where `kept_T` is False; the users stay."""
        kept_before = np.concatenate([[0], np.cumsum(kept_T)])
        return Truth(self.items[kept_T], kept_before[self.offsets])


def sorted_distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each value once, ascending; np.unique would hash, which takes many times as long."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]


def check_lists(lists_UK: Ints, num_items: int) -> None:
    """Raise InputError unless each list holds distinct ids of 1..num_items, then zeros."""
    if lists_UK.ndim != 2:
        raise InputError(f"expected recommendation lists (U, K), got an array {lists_UK.shape}")
    faults = {
        f"an id outside 0..{num_items}": _outside,
        "a gap (0 before an item)": _gaps,
        "an item more than once": _repeats,
    }
    for fault, flags_of in faults.items():
        found = flags_of(lists_UK, num_items)
        if found.any():
            bad_U = np.flatnonzero(found.any(axis=1))
            u = bad_U[0]
            raise InputError(
                f"the recommendation list of row {u} holds {fault}: {lists_UK[u, :10].tolist()}"
                f"{'...' if lists_UK.shape[1] > 10 else ''} ({bad_U.size} of {len(lists_UK)} "
                "lists are like this): mend what made the lists, no metric would mean anything"
            )


NOTHING = np.zeros((1, 1), bool)


def _outside(lists_UK: Ints, num_items: int) -> Bools:
    if lists_UK.min(initial=0) >= 0 and lists_UK.max(initial=0) <= num_items:
        return NOTHING
    return (lists_UK < 0) | (lists_UK > num_items)


def _gaps(lists_UK: Ints, num_items: int) -> Bools:
    if lists_UK.all():
        return NOTHING
    return (lists_UK[:, :-1] == 0) & (lists_UK[:, 1:] != 0)


def _repeats(lists_UK: Ints, num_items: int) -> Bools:
    kind = np.int32 if num_items < 1 << 31 else np.int64  # int32 sorts many times faster
    ordered_UK = np.sort(lists_UK.astype(kind), axis=1)
    return (ordered_UK[:, 1:] == ordered_UK[:, :-1]) & (ordered_UK[:, 1:] != 0)


def find_hits(lists_UK: Ints, truth: Truth) -> Bools:
    """Which ranks hold a relevant item, (U, K) bool. The lists must have passed `check_lists`.

    Compares each target with its user's list: T x K steps, in blocks of bounded memory.
    """
    if len(lists_UK) != len(truth):
        raise InputError(f"{len(lists_UK)} recommendation lists for {len(truth)} users with truth")
    hits_UK = np.zeros(lists_UK.shape, np.bool_)
    users_T = truth.users
    targets_H, ranks_H = match_targets(lists_UK, truth)
    hits_UK[users_T[targets_H], ranks_H] = True
    return hits_UK


def find_targets(lists_UK: Ints, truth: Truth) -> Bools:
    """Which targets are in their user's list, (T,) in the order of the truth."""
    found_T = np.zeros(len(truth.items), np.bool_)
    found_T[match_targets(lists_UK, truth)[0]] = True
    return found_T


def match_targets(lists_UK: Ints, truth: Truth) -> tuple[Ints, Ints]:
    """Target and 0-based rank of each hit, (H,) each, found for a block of targets at a time."""
    users_T = truth.users
    targets, ranks = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(users_T), BLOCK):
        users = users_T[start : start + BLOCK]
        found, places = np.nonzero(lists_UK[users] == truth.items[start : start + BLOCK, None])
        targets.append(found + start)
        ranks.append(places)
    return np.concatenate(targets), np.concatenate(ranks)
