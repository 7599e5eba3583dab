"""Everybody's histories, answered in slices: from a `dataset/` or a Parquet file of events."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from features.encode import Histories
from features.errors import InputError
from features.layout import vocabulary_file
from features.stage import MANIFEST, file_sha256
from features.store import Dataset
from serving.recommender import Recommender
from serving.topk import Ints

HistoryPart = Literal["all", "validation", "test"]
"""All events of a user, or those before a split."""


@dataclass(frozen=True, slots=True)
class Population:
    """Users in a fixed order, their histories and the moments they are asked at.

    users: (U,) raw ids. at: (U,) microseconds UTC. sha256: of what they were read from.
    """

    users: pl.Series
    histories: Histories
    at: Ints
    sha256: str

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, first: int, last: int) -> tuple[pl.Series, Histories, Ints]:
        """Users [first, last)."""
        rows = slice(first, last)
        return self.users[rows], self.histories.take(rows), self.at[rows]


def open_population(recommender: Recommender, source: Path, history: HistoryPart) -> Population:
    """Open a dataset directory or a Parquet file; raises InputError or RequestError."""
    if source.is_dir() and (source / MANIFEST).exists():
        found = _of_dataset(recommender, source, history)
    else:
        found = _of_events(recommender, source, history)
    if not len(found):
        raise InputError(f"{source} holds no users: there is nothing to score")
    return found


def _of_dataset(recommender: Recommender, source: Path, history: HistoryPart) -> Population:
    data = Dataset.open(source)
    name = vocabulary_file("item")
    if recommender.manifest.files[name].sha256 != data.manifest.files[name]:
        raise InputError(
            f"the bundle knows other items than {source}: export the bundle from this dataset, "
            f"or give the events as Parquet with raw ids"
        )
    starts = data.cuts["start"]
    ends = data.cuts["test_end" if history == "all" else f"{history}_start"]
    last = np.maximum(ends - 1, 0)
    at = np.where(ends > starts, data.timestamps[last], data.schema.cutoff)
    users = pl.Series("user_id", data.vocabulary("user"))
    histories = Histories(data.items, data.timestamps, data.events, starts, ends)
    return Population(users, histories, at, data.manifest.sha256)


def _of_events(recommender: Recommender, source: Path, history: HistoryPart) -> Population:
    if history != "all":
        raise InputError(f"{source} has no splits: only history='all' can be asked of it")
    try:
        frame = pl.read_parquet(source)
        digest = file_sha256(source)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{source} is neither a dataset nor a Parquet file: {error}") from error
    request = recommender.reader.read_frame(frame)
    return Population(request.users, request.histories, request.at, digest)
