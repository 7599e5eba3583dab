"""How often each item was chosen before a given day: compact, memory-mapped, point in time.

One row for every (item, UTC day) with events, sorted by item and day, plus one row a item before
its first day, so that a search for "the last row before (item, day)" always ends inside the item:

    key        int64   item << 32 | day + 2^31   (day = floor(microseconds since 1970 / 86.4e9))
    total      int64   the item's events up to and including that day; 0 in the row before the first
    first_day  int32   of the item; `NEVER` for an item without events

Item 0, which is padding elsewhere, holds all items together. Of a log with several behaviours there
is one more such file for each, `item-timeline-<code>.arrow`.

Why days: a question at time t is answered from the days *before* the day of t, never from that
day. So neither the target event, nor those recorded at the same moment, nor anything later can be
counted, whatever the order of simultaneous rows, and a service that refreshes its statistics every
night computes the same numbers as training. The price: what happened earlier on the same day is
not seen, so the answer is up to 24 hours old.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.covisits import Covisits
from features.store import read_table, to_arrays, write_table

Ints = NDArray[np.integer]

DAY = 86_400 * 1_000_000  # microseconds
ITEM_TIMELINE = "item-timeline.arrow"
NEVER = -(2**31)
"""`first_day` of an item without events."""


def day_of(timestamps: Ints) -> NDArray[np.int64]:
    """UTC day number, 0 = 1970-01-01."""
    return np.asarray(timestamps, np.int64) // DAY


def _keys(items: Ints, days: Ints) -> NDArray[np.int64]:
    return (np.asarray(items, np.int64) << 32) + (days + 2**31)


TIMELINE_TYPES = {"key": np.int64, "total": np.int64, "first_day": np.int32}


def timeline_file(code: int) -> str:
    """The file of a behaviour; code 0: of all behaviours together."""
    return f"item-timeline-{code}.arrow" if code else ITEM_TIMELINE


def timeline_codes(num_behaviours: int) -> range:
    """The codes that have a file: none of their own where there is one behaviour only."""
    return range(num_behaviours + 1 if num_behaviours > 1 else 1)


def write_timelines(
    directory: Path,
    item_ids: Ints,
    timestamps: Ints,
    num_items: int,
    events: Ints | None = None,
    num_behaviours: int = 1,
) -> None:
    """Write the files over events (E,) in any order, item ids 1..num_items.

    events: (E,) behaviour codes; needed where there are several.
    """
    for code in timeline_codes(num_behaviours):
        chosen = slice(None) if not code or events is None else events == code
        items, times = item_ids[chosen], timestamps[chosen]
        keys, counts = count_days(items, times)
        daily = count_days(np.zeros_like(items), times)
        rows = timeline_rows(
            np.concatenate([daily[0], keys]), np.concatenate([daily[1], counts]), 0, num_items + 1
        )
        write_table(directory / timeline_file(code), rows)


def count_days(item_ids: Ints, timestamps: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The (item, day) keys with events, ascending, and how many events each has."""
    keys = _keys(item_ids, day_of(timestamps))
    keys.sort()
    starts = np.flatnonzero(np.diff(keys, prepend=-1) > 0)
    return keys[starts], np.diff(starts, append=len(keys))


def first_key(item: int) -> int:
    """The least key of an item: where its rows begin among sorted keys."""
    return item << 32


def timeline_rows(
    keys: NDArray[np.int64], counts: NDArray[np.int64], first: int, end: int
) -> dict[str, NDArray]:
    """The rows of the items [first, end), of which `keys` are all with events, ascending."""
    before = _keys(np.arange(first, end), np.array(NEVER))
    merged = np.concatenate([before, keys])
    order = np.argsort(merged, kind="stable")
    merged = merged[order]
    running = np.cumsum(np.concatenate([np.zeros(len(before), np.int64), counts])[order])
    first_rows = np.searchsorted(merged, before)
    items = (merged >> 32) - first
    first_day = np.full(end - first, NEVER, np.int64)
    chosen = np.flatnonzero(np.diff(first_rows, append=len(merged)) > 1)
    first_day[chosen] = _days(merged[first_rows[chosen] + 1])
    return {
        "key": merged,
        "total": running - running[first_rows][items],
        "first_day": first_day.astype(np.int32)[items],
    }


def _days(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return (keys & 0xFFFFFFFF) - 2**31


@dataclass(frozen=True, slots=True)
class ItemTimeline:
    """An opened timeline; arrays are read-only views of the mapped file."""

    key: NDArray[np.int64]
    total: NDArray[np.int64]
    first_day: NDArray[np.int32]
    starts: NDArray[np.int64]
    """Row before the first day of each item, and the number of rows: (items + 1,)."""
    delay: int = 0
    """Days after which an event becomes known, beside the rest of its own day."""
    behaviours: tuple["ItemTimeline", ...] = ()
    """Element i has the events of code i + 1; empty where there is one behaviour only."""
    covisits: Covisits | None = None
    """What followed what; None where the dataset does not count it."""

    def delayed(self, days: int) -> "ItemTimeline":
        """The same, for a service that learns of events `days` later (labels that take time)."""
        return replace(self, delay=days)

    @classmethod
    def open(cls, directory: Path) -> "ItemTimeline":
        """Open what `write_timelines` and `write_covisits` wrote; raises InputError when a file
        cannot be read.
        """
        every = cls._open(directory / ITEM_TIMELINE)
        paths = (directory / timeline_file(code) for code in itertools.count(1))
        behaviours = tuple(map(cls._open, itertools.takewhile(Path.is_file, paths)))
        covisits = Covisits.open(directory, int(every.key[-1] >> 32))
        return replace(every, behaviours=behaviours, covisits=covisits)

    @classmethod
    def _open(cls, path: Path) -> "ItemTimeline":
        columns = to_arrays(read_table(path))
        key = columns["key"]
        items = np.arange((int(key[-1]) >> 32) + 1)
        starts = np.append(np.searchsorted(key, _keys(items, np.array(NEVER))), len(key))
        return cls(key, columns["total"], columns["first_day"], starts)

    def with_items(self, count: int) -> "ItemTimeline":
        """The same, with `count` further items, which have no events."""
        num_ids = int(self.key[-1] >> 32) + 1
        before = _keys(np.arange(num_ids, num_ids + count), np.array(NEVER))
        never = np.full(count, NEVER, np.int32)
        return ItemTimeline(
            np.concatenate([self.key, before]),
            np.pad(self.total, (0, count)),
            np.concatenate([self.first_day, never]),
            np.concatenate([self.starts, self.starts[-1] + np.arange(1, count + 1)]),
            self.delay,
            tuple(one.with_items(count) for one in self.behaviours),
            self.covisits and self.covisits.with_items(count),
        )

    def write(self, directory: Path) -> None:
        """Write the files that `open` reads."""
        for code, one in enumerate((self, *self.behaviours)):
            columns = {"key": one.key, "total": one.total, "first_day": one.first_day}
            write_table(directory / timeline_file(code), columns)
        if self.covisits is not None:
            self.covisits.write(directory)

    def known_day(self, at: Ints) -> NDArray[np.int64]:
        """The first day that may not be counted for a question at `at` (microseconds).

        One more than the last day before that of `at` on which anything at all happened: a question
        asked a month after the log ends looks at the last weeks of the log, not at weeks that look
        empty. (Of the log's end itself a question before it must not know.)
        """
        asked = day_of(at) - self.delay
        if NEVER < self.last_day < asked.min(initial=self.last_day + 1):
            return np.full(asked.shape, self.last_day + 1)  # as for all that a service is asked
        last = self.day_at(self.rows_before(np.zeros_like(asked), asked))
        return np.where(last == NEVER, asked, last + 1)

    @property
    def last_day(self) -> int:
        """The last day with events of any item; `NEVER` without one."""
        return int(self.key[self.starts[1] - 1] & 0xFFFFFFFF) - 2**31

    def rows_before(self, items: Ints, days: Ints) -> NDArray[np.int64]:
        """The row of the last day before `days` with events of `items`, for `total` and `day_at`.

        The row before the first day where there is none: its total is 0, its day `NEVER`.

        By halving the rows of each item alone: over a large catalogue a search through all rows
        waits for memory ten times as long.
        """
        wanted = _keys(items, days)
        low = np.broadcast_to(self.starts[items], wanted.shape)
        high = np.broadcast_to(self.starts[np.asarray(items) + 1], wanted.shape)
        for _ in range(int((high - low).max(initial=1) - 1).bit_length()):
            middle = (low + high) >> 1
            is_before = self.key[middle] < wanted  # of row `low` always
            low = np.where(is_before, middle, low)
            high = np.where(is_before, high, middle)
        return low

    def day_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The day of each row of `rows_before`."""
        return _days(self.key[rows])
