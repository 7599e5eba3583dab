"""An `events/` in parts by hash of the user: which part a user is in, and the files of a part.

    parts/part-00003.0.parquet    user_id, item_id, timestamp, event (and session_id, value)
    parts/part-00003.1.parquet    what was added later: a stage that grew shares the files before

All rows of a user are in one part. A file is sorted by user and time, ties as in the log.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.layout import PARTS
from features.vocabulary import number_by_appearance


def part_of(users: pl.Series, num_parts: int) -> NDArray[np.uint16]:
    """The part of each user id, (E,). Depends on nothing but the id and the number of parts.

    Whole numbers: the finaliser of splitmix64. Texts: CRC-32 of UTF-8, as the values of a log
    repeat, once a distinct user.
    """
    if users.dtype.is_integer():
        mixed = users.cast(pl.Int64).to_numpy().astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashes = mixed ^ (mixed >> np.uint64(31))
        return (hashes % np.uint64(num_parts)).astype(np.uint16)
    codes, distinct = number_by_appearance(users.to_arrow())
    hashes = np.fromiter(
        (zlib.crc32(user.encode()) for user in distinct.to_pylist()), np.uint64, len(distinct)
    )
    return (hashes % np.uint64(num_parts)).astype(np.uint16)[codes]


def part_file(part: int, generation: int) -> str:
    """Path of one file of a part below the stage's directory."""
    return f"{PARTS}/part-{part:05d}.{generation}.parquet"


def files_of_part(files: Mapping[str, Any], part: int) -> list[str]:
    """The names among `files` that belong to a part, oldest first."""
    prefix = f"{PARTS}/part-{part:05d}."
    found = [name for name in files if name.startswith(prefix)]
    return sorted(found, key=lambda name: int(name.removeprefix(prefix).split(".")[0]))


def read_part(events: Path, names: list[str], columns: list[str]) -> pl.DataFrame:
    """The rows of a part, sorted by user and time; `event` is a String. Columns may be absent."""
    frames = []
    for name in names:
        scanned = pl.scan_parquet(events / name)
        found = scanned.collect_schema()
        frame = scanned.select(column for column in columns if column in found).collect()
        frames.append(frame.with_columns(pl.col("event").cast(pl.String)))
    if len(frames) == 1:
        return frames[0]
    return pl.concat(frames).sort("user_id", "timestamp", maintain_order=True)
