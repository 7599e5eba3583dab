"""Which items followed which in histories, and how often before a given day: memory-mapped.

An event on item b is a visit together with each of the `reach` events of its user before it that
is on another item a: the pair (a, b) is counted on the day of the event on b. One row for every
(a, b, day) that was counted, sorted, and one for every (a, 0, day), with all that followed a:

    key    int64   a << 40 | b << 17 | day    (a, b < 2^23; day from 1970, < 2^17)
    total  int32   times that b followed a up to and including that day

As in `features.timeline`, a question is answered from the days before its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.store import read_table, to_arrays, write_table

Ints = NDArray[np.integer]
Counted = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Keys, ascending, and how often each was counted."""
COVISITS = "item-covisits.arrow"
COVISIT_TYPES = {"key": np.int64, "total": np.int32}
DAY = 86_400 * 1_000_000  # microseconds
DAY_BITS, ITEM_BITS = 17, 23
MAX_ITEMS = (1 << ITEM_BITS) - 1


def pair_keys(first: Ints, then: Ints, days: Ints) -> NDArray[np.int64]:
    """The key of each (first, then, day)."""
    items = (np.asarray(first, np.int64) << ITEM_BITS) | np.asarray(then, np.int64)
    return (items << DAY_BITS) | np.clip(np.asarray(days, np.int64), 0, (1 << DAY_BITS) - 1)


def first_pair_key(item: int) -> int:
    """The least key of the pairs that begin with an item."""
    return item << (ITEM_BITS + DAY_BITS)


def count_pairs(items: Ints, timestamps: Ints, starts: Ints, ends: Ints, reach: int) -> Counted:
    """Count the pairs among rows [starts, ends) of each user, (U,), of the events (E,)."""
    lengths = ends - starts
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = place + np.repeat(starts, lengths)
    keys = []
    for lag in range(1, reach + 1):
        then = rows[place >= lag]
        first = then - lag
        other = items[first] != items[then]
        first, then = first[other], then[other]
        keys.append(pair_keys(items[first], items[then], timestamps[then] // DAY))
    every = np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    return _distinct(every, np.ones(len(every), np.int64))


def _distinct(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> Counted:
    """The distinct ones of ascending keys, and the sums of their counts."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def merged_pairs(pieces: list[Counted]) -> dict[str, NDArray]:
    """The rows of the file for what was counted in several pieces, whole items of `a` only."""
    keys = np.concatenate([key for key, _ in pieces])
    counts = np.concatenate([count for _, count in pieces])
    item_mask = ((1 << ITEM_BITS) - 1) << DAY_BITS
    keys, counts = np.concatenate([keys, keys & ~np.int64(item_mask)]), np.tile(counts, 2)
    order = np.argsort(keys, kind="stable")
    keys, counts = _distinct(keys[order], counts[order])
    running = np.cumsum(counts)
    pairs = keys >> DAY_BITS
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    before = np.repeat(running[begins] - counts[begins], np.diff(begins, append=len(keys)))
    return {"key": keys, "total": (running - before).astype(np.int32)}


def refuse_too_many_items(num_items: int) -> None:
    """Raise InputError where a key cannot hold the items."""
    if num_items > MAX_ITEMS:
        raise InputError(
            f"co-visits can be counted of {MAX_ITEMS:,} items at most, there are {num_items:,}: "
            f"set covisit_reach = 0, or keep fewer items with min_item_events"
        )


def write_covisits(directory: Path, counted: Counted) -> None:
    """Write `item-covisits.arrow` of what `count_pairs` found."""
    write_table(directory / COVISITS, merged_pairs([counted]))


@dataclass(frozen=True, slots=True)
class Covisits:
    """An opened file; arrays are read-only views of it."""

    key: NDArray[np.int64]
    total: NDArray[np.int32]
    starts: NDArray[np.int64]
    """First row of each item, and the number of rows: (items + 2,), element 0 of no item."""

    @classmethod
    def open(cls, directory: Path, num_items: int) -> Self | None:
        """None where the directory has no such file; raises InputError for a damaged one."""
        path = directory / COVISITS
        if not path.is_file():
            return None
        columns = to_arrays(read_table(path))
        edges = np.arange(num_items + 2, dtype=np.int64) << (ITEM_BITS + DAY_BITS)
        return cls(columns["key"], columns["total"], np.searchsorted(columns["key"], edges))

    def count(self, first: Ints, then: Ints, days: Ints) -> NDArray[np.int64]:
        """How often `then` followed `first` before `days`; arguments are broadcast together.

        `then` = 0: how often anything did. By halving the rows of `first` alone.
        """
        wanted = pair_keys(first, then, days)
        if not len(self.key):
            return np.zeros(wanted.shape, np.int64)
        begin = np.broadcast_to(self.starts[first], wanted.shape)
        low, high = begin - 1, np.broadcast_to(self.starts[np.asarray(first) + 1], wanted.shape)
        for _ in range(int((high - low).max(initial=1) - 1).bit_length()):
            middle = (low + high) >> 1
            is_before = (middle < begin) | (self.key[middle] < wanted)
            low = np.where(is_before, middle, low)
            high = np.where(is_before, high, middle)
        found = (low >= begin) & (self.key[low] >> DAY_BITS == wanted >> DAY_BITS)
        return np.where(found, self.total[low], 0).astype(np.int64)

    def with_items(self, count: int) -> "Covisits":
        """The same, with `count` further items that nothing has followed yet."""
        return Covisits(self.key, self.total, np.pad(self.starts, (0, count), mode="edge"))

    def write(self, directory: Path) -> None:
        """Write the file that `open` reads."""
        columns: Mapping[str, NDArray] = {"key": self.key, "total": self.total}
        write_table(directory / COVISITS, columns)
