"""The two halves of `data.partition`, each for one file or one part, wherever it is done.

A chunk is an Arrow file with a record batch for every part, in the order of the log.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from data.aside import FILE_ROW, Aside
from data.config import EVENT_COLUMNS, LogFiles
from data.files import Scan, reading
from data.log import convert_events, open_events
from features.errors import InputError
from features.parts import part_of
from features.schema import check_events

BATCH = 1 << 20
"""Rows of a file that are held at once."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to shuffle."""

    config: LogFiles
    number: int
    path: Path
    types: dict[str, pl.DataType]
    """Of the ids."""
    scratch: Path

    @property
    def key(self) -> str:
        """In the journal."""
        return f"file {self.number}"


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A file as chunks."""

    note: dict[str, Any]
    """Names of the chunks, rows, behaviours."""
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part to gather from all chunks."""

    config: LogFiles
    part: int
    chunks: tuple[Path, ...]
    behaviours: tuple[str, ...]
    out: Path

    @property
    def key(self) -> str:
        """In the journal."""
        return f"part {self.part}"


def shuffle_file(task: FileTask, say_rows: Callable[[int], None] | None = None) -> Shuffled:
    """Convert, check and deal out one file. Raises InputError for rows that cannot be used."""
    aside = Aside(skip=task.config.on_error == "skip")
    rejected = task.scratch / f"rejected-{task.number:06d}.jsonl"
    scan = open_events(task.config, task.path)
    chunks, behaviours, rows = [], {}, 0
    with rejected.open("w") as aside_lines:
        for chunk, batch in enumerate(_batches(scan)):
            frame = convert_events(task.config, batch, task.path, aside)
            aside_lines.write(aside.lines())
            if frame.is_empty():
                continue
            if not aside.skip:
                check_events(frame, str(task.path), ordered=False)
            with reading(task.path):
                frame = frame.cast({k: v for k, v in task.types.items() if k in frame.columns})
            behaviours.update(dict.fromkeys(frame["event"].unique().sort()))
            path = task.scratch / f"chunk-{task.number:06d}-{chunk:04d}.arrow"
            _write_chunk(path, frame.drop(FILE_ROW), task.config.parts)
            chunks.append(path)
            rows += len(frame)
            if say_rows is not None:
                say_rows(len(frame))
    if not rows and not aside.skip:
        raise InputError(f"{task.path} is empty: it has the columns, and no rows")
    names = [path.name for path in chunks]
    note = {"chunks": names, "rows": rows, "behaviours": list(behaviours)}
    return Shuffled(note, (rejected, *chunks))


def _batches(scan: Scan) -> Iterator[pl.DataFrame]:
    numbered = scan.lazy.with_row_index(FILE_ROW, offset=1)
    with reading(scan.path):
        yield from numbered.collect_batches(chunk_size=BATCH, maintain_order=True)


def _write_chunk(path: Path, frame: pl.DataFrame, num_parts: int) -> None:
    parts = part_of(frame["user_id"], num_parts)
    order = np.argsort(parts, kind="stable")
    names = [name for name in EVENT_COLUMNS if name in frame.columns]
    table = frame.select(names)[order].to_arrow(compat_level=pl.CompatLevel.oldest())
    edges = np.searchsorted(parts[order], np.arange(num_parts + 1))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        for part in range(num_parts):
            rows = table.slice(edges[part], edges[part + 1] - edges[part]).combine_chunks()
            batches = rows.to_batches()
            empty = pa.RecordBatch.from_pylist([], schema=table.schema)
            writer.write_batch(batches[0] if batches else empty)


def gather_part(task: PartTask) -> int:
    """Write one part, sorted by user and time; returns its rows, of which there may be none."""
    batches = [_read_batch(path, task.part) for path in task.chunks]
    table = pa.Table.from_batches([b for b in batches if len(b)], batches[0].schema)
    frame = pl.DataFrame(pl.from_arrow(table))
    if len(frame):
        frame = _sorted(task.config, frame)
        frame = frame.with_columns(pl.col("event").cast(pl.Enum(task.behaviours)))
        frame.write_parquet(task.out, compression="lz4", statistics=False)
    return len(frame)


def _read_batch(chunk: Path, part: int) -> pa.RecordBatch:
    """The rows of a part. Read, not mapped: mapped pages of all chunks would stay in memory."""
    with pa.OSFile(str(chunk)) as source:
        return pa.ipc.open_file(source).get_batch(part)


def _sorted(config: LogFiles, frame: pl.DataFrame) -> pl.DataFrame:
    """By user and time, ties as in the log; refused where the log had to be in order and is not."""
    if config.order == "sort":
        return frame.sort("user_id", "timestamp", maintain_order=True)
    grouped = frame.sort("user_id", maintain_order=True)
    return check_events(grouped, f"the log of {', '.join(config.paths)}, sorted by user")
