"""Point-in-time features of events, as a table: what a ranker outside of this project trains on.

One row an event of a split: the user's row, the item, the time, the behaviour, and the features
of `features.asof` for that item, as of that time, given the user's events before it. The same code
answers requests, so a model trained on the table meets the same numbers in service.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.asof import Facts, Wanted, feature_names, ranking_features
from features.encode import Histories
from features.errors import InputError
from features.layout import Split
from features.progress import peak_memory, progress
from features.stage import write_stage
from features.store import Dataset
from features.timeline import ItemTimeline

BLOCK_EVENTS = 1 << 19
"""Events of all histories that are held at once, about."""
BLOCK_ROWS = 1 << 14
TABLE = "features.parquet"


def write_training_table(
    dataset: Dataset,
    out: Path,
    *,
    split: Split | Literal["training"] = "validation",
    wanted: Wanted = "all",
    label_delay_days: int = 0,
    max_rows: int | None = None,
) -> None:
    """Write `features.parquet` of the events of a split to the stage `out`.

    split: of the training events, the first of a user has an empty history.
    max_rows: a random sample of so many rows, in order; None takes all. Raises InputError when
    there are no events or `out` exists. Prints one line to stderr.
    """
    started = time.perf_counter()
    names = feature_names(dataset.schema.item_columns, (), wanted, Facts.of(dataset.schema))
    rows, users = _rows(dataset, split, max_rows)
    timeline = ItemTimeline.open(dataset.path).delayed(label_delay_days)
    config = {"split": split, "features": list(names), "label_delay_days": label_delay_days}
    schema = pa.schema(
        {"user": pa.int64(), "item": pa.int32(), "at": pa.int64(), "event": pa.uint8()}
        | dict.fromkeys(names, pa.float32())
    )
    blocks = list(_blocks(dataset, rows, users))
    with (
        write_stage(
            out, kind="features", config=config, parent=dataset.manifest.sha256
        ) as directory,
        pq.ParquetWriter(directory / TABLE, schema, compression="zstd") as writer,
        progress("features", len(blocks)) as bar,
    ):
        for block in blocks:
            of_block = (rows[block], users[block])
            writer.write_table(_table(dataset, timeline, names, schema, of_block))
            bar.rows(len(of_block[0]))
            bar.advance()
    seconds = time.perf_counter() - started
    print(
        f"{out}: {len(rows):,} rows of {len(names)} features; {seconds:.1f} s, "
        f"{len(rows) / seconds:,.0f} rows/s, peak memory {peak_memory():,.0f} MiB",
        file=sys.stderr,
    )


def _rows(
    dataset: Dataset, split: Split | Literal["training"], max_rows: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the events of a split, ascending, and the row of the user of each."""
    start = dataset.cuts["start"]
    first, last = start, dataset.cuts["train_end"]
    if split != "training":
        first, last = dataset.cuts[f"{split}_start"], dataset.cuts[f"{split}_end"]
    whole = Histories(dataset.items, dataset.timestamps, dataset.events, start, last)
    _, rows = whole.prefixes(np.where(last > first, first - start, last - start))
    if not len(rows):
        raise InputError(f"{dataset.path} has no event in {split}")
    if max_rows is not None and max_rows < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, max_rows, replace=False))
    return rows, np.searchsorted(start, rows, side="right") - 1


def _blocks(dataset: Dataset, rows: NDArray[np.int64], users: NDArray[np.int64]) -> Iterator[slice]:
    """Consecutive rows whose histories together are not too long."""
    lengths = rows - dataset.cuts["start"][users] + BLOCK_EVENTS // BLOCK_ROWS
    block = (np.cumsum(lengths) - lengths) // BLOCK_EVENTS
    edges = np.flatnonzero(np.diff(block, prepend=-1))
    for start, end in zip(edges, [*edges[1:], len(rows)], strict=True):
        yield slice(int(start), int(end))


def _table(
    dataset: Dataset,
    timeline: ItemTimeline,
    names: tuple[str, ...],
    schema: pa.Schema,
    of_block: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> pa.Table:
    rows, users = of_block
    starts = dataset.cuts["start"][users]
    histories = Histories(dataset.items, dataset.timestamps, dataset.events, starts, rows)
    at, items = dataset.timestamps[rows], dataset.items[rows]
    features_RF = ranking_features(
        histories,
        at,
        items[:, None],
        {},
        timeline,
        dataset.item_table,
        dataset.schema.item_columns,
        wanted=names,
        facts=Facts.of(dataset.schema),
    )[:, 0]
    columns = [users, items, at, dataset.events[rows], *features_RF.T]
    return pa.table([pa.array(np.ascontiguousarray(c)) for c in columns], schema=schema)
