"""Opens a `dataset/` memory-mapped. pyarrow and numpy only: a training host needs no Polars."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.layout import (
    CUTS,
    EVENTS,
    ITEMS,
    USERS,
    DatasetSchema,
    Split,
    vocabulary_file,
)
from features.stage import StageManifest, read_manifest, verify_files


def read_table(path: Path) -> pa.Table:
    """An Arrow IPC file as a table over the mapped file; raises InputError if unreadable."""
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}): build the dataset again") from error


def write_table(path: Path, arrays: Mapping[str, NDArray | pa.Array]) -> None:
    """Write arrays, numpy (N,) or (N, W) or Arrow (N,), as one batch of uncompressed Arrow IPC."""
    columns = {}
    for name, array in arrays.items():
        if isinstance(array, pa.Array):
            columns[name] = array
            continue
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        wide = array.ndim == 2
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, array.shape[1]) if wide else flat
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(table.num_rows, 1))


def to_arrays(table: pa.Table) -> dict[str, NDArray]:
    """Columns as numpy arrays, (N,) or (N, W) for fixed-size lists; no copy from a mapped file."""
    arrays: dict[str, NDArray] = {}
    for name in table.column_names:
        column = table.column(name)
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if pa.types.is_fixed_size_list(chunk.type):
            arrays[name] = _values(chunk.flatten()).reshape(len(chunk), chunk.type.list_size)
        else:
            arrays[name] = _values(chunk)
    return arrays


def _values(chunk: pa.Array) -> NDArray:
    """A view of numbers. (`to_numpy` would import pandas where it is installed: .2 s a process.)"""
    kind = chunk.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if chunk.null_count or not len(chunk) or not plain:  # of an empty one DLPack gives no view
        return chunk.to_numpy(zero_copy_only=False)
    return np.from_dlpack(chunk)


@dataclass(frozen=True, slots=True)
class Cases:
    """What one split asks: predict each user's targets from the history before them.

    users: (C,) row of the user. starts, cuts, ends: (C,) rows in the event arrays; the history is
    [starts, cuts) and the targets are [cuts, ends).
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    cuts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened `dataset/`. Arrays are read-only views of the mapped files."""

    path: Path
    schema: DatasetSchema
    manifest: StageManifest
    items: NDArray[np.int32]
    """(E,) dense item id of each event."""
    timestamps: NDArray[np.int64]
    """(E,) microseconds UTC."""
    events: NDArray[np.uint8]
    """(E,) behaviour codes."""
    cuts: Mapping[str, NDArray[np.int64]]
    """Cut points by the names of `layout.CUTS`, (U,) each."""
    item_table: Mapping[str, NDArray]
    """Encoded attributes by column name, (N + 1, ...)."""

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> "Dataset":
        """Open a dataset; `verify` also recomputes every file's hash. Raises InputError."""
        manifest = read_manifest(path, "dataset")
        if verify:
            verify_files(path, manifest)
        events = to_arrays(read_table(path / EVENTS))
        users = to_arrays(read_table(path / USERS))
        return cls(
            path,
            DatasetSchema.read(path),
            manifest,
            events["item_id"],
            events["timestamp"],
            events["event"],
            {name: users[name] for name in CUTS},
            to_arrays(read_table(path / ITEMS)),
        )

    def vocabulary(self, name: str) -> pa.Array:
        """Raw ids of `item` or `user` (element i is id i + 1) or of a column (id i + 2)."""
        column = read_table(self.path / vocabulary_file(name)).column("id")
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def training_histories(self) -> Histories:
        """The training part of every user who has one, in user order."""
        rows = np.flatnonzero(self.cuts["train_end"] > self.cuts["start"])
        return self._histories(self.cuts["start"][rows], self.cuts["train_end"][rows])

    def cases(self, split: Split) -> Cases:
        """All users with a target and a non-empty or empty history in `split`, in user order.

        Where the split asks for prefixes: an event of a target behaviour that has events before it
        is a case of its own, and a user has several, one after the other.
        """
        first, last = self.cuts[f"{split}_start"], self.cuts[f"{split}_end"]
        users = np.flatnonzero(last > first)
        if self.schema.split.get("cases") == "prefixes":
            return self._prefixes(users, first[users], last[users])
        return Cases(users, self.cuts["start"][users], first[users], last[users])

    def _prefixes(
        self, users: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
    ) -> Cases:
        counts = last - first
        owner = np.repeat(np.arange(len(users)), counts)
        row = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + first[owner]
        start = self.cuts["start"][users][owner]
        names = ("", *self.schema.event_types)
        target = np.isin(names, self.schema.target_events)[self.events[row]]
        kept = target & (row > start)
        row = row[kept]
        return Cases(users[owner][kept], start[kept], row, row + 1)

    def histories(self, cases: Cases) -> Histories:
        """The histories of `cases`, without copying."""
        return self._histories(cases.starts, cases.cuts)

    def _histories(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Histories:
        return Histories(self.items, self.timestamps, self.events, starts, ends)
