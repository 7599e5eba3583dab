"""The statistics of items in all parts, put together a few items at a time.

Each part of a log left what it counted, sorted by item, in the scratch folder
(`features.partitioned`); all of it together may be larger than memory.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from features.appended import AppendedColumns
from features.covisits import (
    COVISIT_TYPES,
    COVISITS,
    Counted,
    first_pair_key,
    merged_pairs,
    refuse_too_many_items,
)
from features.resume import Workspace
from features.store import read_table, to_arrays
from features.timeline import TIMELINE_TYPES, first_key, timeline_file, timeline_rows

TIMELINE_ROWS = 1 << 22
"""Rows that are held at once, about."""


def merge_days(work: Workspace, num_items: int, code: int) -> None:
    """The timeline of a behaviour (0: of all) over the item days of all parts."""
    tables = _counts_of_parts(work, f"days-{code}-")
    with AppendedColumns(work.directory / timeline_file(code), TIMELINE_TYPES) as timeline:
        timeline.append(timeline_rows(*_daily(tables), 0, 1))
        for first, end, slices in _by_items(tables, num_items, first_key):
            timeline.append(timeline_rows(*_sum(slices), first, end))


def merge_pairs(work: Workspace, num_items: int) -> None:
    """The co-visits over those of all parts."""
    refuse_too_many_items(num_items)
    tables = _counts_of_parts(work, "pairs-")
    with AppendedColumns(work.directory / COVISITS, COVISIT_TYPES) as covisits:
        for _, _, slices in _by_items(tables, num_items, first_pair_key):
            covisits.append(merged_pairs(slices))


def _counts_of_parts(work: Workspace, prefix: str) -> list[dict[str, NDArray]]:
    return [to_arrays(read_table(p)) for p in sorted(work.scratch.glob(f"{prefix}*.arrow"))]


def _by_items(
    tables: list[dict[str, NDArray]], num_items: int, least: Callable[[int], int]
) -> Iterator[tuple[int, int, list[Counted]]]:
    """Some items [first, end) at a time, and of each table what begins with them.

    As many items as have `TIMELINE_ROWS` together: a few popular ones, or very many others.
    """
    edges = np.array([least(1), least(2)])
    edges = edges[0] + (edges[1] - edges[0]) * np.arange(num_items + 1)
    before = np.zeros(len(edges), np.int64)
    for table in tables:
        before += np.searchsorted(table["key"], edges)
    first = 1
    while first <= num_items:
        wanted = before[first - 1] + TIMELINE_ROWS
        end = max(int(np.searchsorted(before, wanted, side="right")), first + 1)
        slices = []
        for table in tables:
            rows = slice(*np.searchsorted(table["key"], edges[[first - 1, end - 1]]))
            slices.append((table["key"][rows], table["count"][rows]))
        yield first, end, slices
        first = end


def _sum(
    pieces: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct keys, ascending, and the sum of their counts."""
    keys = np.concatenate([key for key, _ in pieces])
    counts = np.concatenate([count for _, count in pieces])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1) > 0)
    return keys[starts], np.add.reduceat(counts[order], starts) if len(starts) else counts


def _daily(
    tables: list[dict[str, NDArray]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys of item 0, which holds all items together, and the events of each day."""
    daily = []
    for table in tables:
        days, places = np.unique(table["key"] & 0xFFFFFFFF, return_inverse=True)
        daily.append((days, np.bincount(places, table["count"]).astype(np.int64)))
    return _sum(daily)
