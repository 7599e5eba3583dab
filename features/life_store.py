"""Opens a dataset of lives memory-mapped. pyarrow and numpy only: a training host has no Polars."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import life_layout as layout
from features.layout import vocabulary_file
from features.life_encode import Documents
from features.life_layout import LifeSchema
from features.stage import StageManifest, read_manifest, verify_files
from features.store import read_table, to_arrays


@dataclass(frozen=True, slots=True)
class Lives:
    """An opened dataset of lives. Arrays are read-only views of the mapped files."""

    path: Path
    schema: LifeSchema
    manifest: StageManifest | None
    """None while it is being built."""
    timestamps: NDArray[np.int64]
    """(E,) microseconds UTC."""
    tokens: NDArray[np.int32]
    """(E, F), 0 where a field is missing."""
    values: Mapping[str, NDArray]
    """user, timestamp, series, value of each number; series s is `schema.series[s]`."""
    users: Mapping[str, NDArray]
    """start, end, background, birth of each person."""
    cases: Mapping[str, NDArray]
    """user, at, cut, split, labels of each case."""

    @classmethod
    def open(cls, path: Path, *, verify: bool = False, built: bool = False) -> "Lives":
        """Open a dataset; `verify` recomputes every file's hash. Raises InputError.

        built: opened by its builder, before there is a manifest.
        """
        manifest = None if built else read_manifest(path, layout.LIVES)
        if verify and manifest is not None:
            verify_files(path, manifest)
        events = to_arrays(read_table(path / layout.EVENTS))
        return cls(
            path,
            LifeSchema.read(path / layout.LIFE),
            manifest,
            events["timestamp"],
            events["tokens"],
            to_arrays(read_table(path / layout.VALUES)),
            to_arrays(read_table(path / layout.USERS)),
            to_arrays(read_table(path / layout.CASES)),
        )

    def raw_users(self) -> pa.Array:
        """Raw user id of each row of `users`."""
        column = read_table(self.path / vocabulary_file("user")).column("id")
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of the cases of `train`, `validation` or `test`."""
        return np.flatnonzero(self.cases["split"] == layout.SPLITS.index(split))

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(rows, T), nan where not known."""
        return self.cases["labels"][rows]

    def documents(self, rows: NDArray[np.int64]) -> Documents:
        """What the cases at `rows` may know."""
        user = self.cases["user"][rows]
        background = self.users["background"][:, : len(self.schema.background)]
        return Documents(
            self.timestamps,
            self.tokens,
            self.users["start"][user],
            self.cases["cut"][rows],
            background[user],
            self.users["birth"][user],
        )
