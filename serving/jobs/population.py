"""Everybody's histories: from a `dataset/`, a Parquet file of events, or one of contexts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.encode import Histories
from features.errors import InputError
from features.layout import vocabulary_file
from features.store import Dataset
from serving.errors import RequestError
from serving.jobs.plan import HistoryPart, is_dataset
from serving.recommender import Recommender
from serving.topk import Ints


@dataclass(frozen=True, slots=True)
class Population:
    """Users in a fixed order, their histories and the moments they are asked at.

    users: (U,) raw ids. at: (U,) microseconds UTC. unknown: (U,) events left out of each history
    because the bundle does not know their item.
    """

    users: pl.Series
    histories: Histories
    at: Ints
    unknown: Ints

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, first: int, last: int) -> "Population":
        """Users [first, last); last = -1: to the end."""
        rows = slice(first, len(self) if last < 0 else last)
        return Population(
            self.users[rows], self.histories.take(rows), self.at[rows], self.unknown[rows]
        )


def open_population(recommender: Recommender, source: Path, history: HistoryPart) -> Population:
    """Open a dataset directory or a Parquet file; raises InputError or RequestError.

    Users come in the order of the dataset, or of their first row in the file.
    """
    if is_dataset(source):
        found = _of_dataset(recommender, source, history)
    else:
        found = _of_file(recommender, source, history)
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
    return Population(users, histories, at, np.zeros(len(users), np.int64))


def _of_file(recommender: Recommender, source: Path, history: HistoryPart) -> Population:
    if history != "all":
        raise InputError(f"{source} has no splits: only history='all' can be asked of it")
    try:
        frame = pl.read_parquet(source)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{source} is neither a dataset nor a Parquet file: {error}") from error
    try:
        if "history" in frame.columns:
            return _of_contexts(recommender, frame)
        request = recommender.reader.read_frame(frame)
    except RequestError as error:
        raise RequestError(f"{source}: {error}") from error
    return Population(request.users, request.histories, request.at, request.unknown)


LISTS = {"history": "item_id", "timestamps": "timestamp", "events": "event"}
"""Columns of contexts, and what their values are called among events."""


def _of_contexts(recommender: Recommender, frame: pl.DataFrame) -> Population:
    """One row a user; users without a history are kept."""
    lists = [name for name in LISTS if name in frame.columns]
    _check_contexts(frame, lists)
    size = len(frame)
    events = (
        frame.select(pl.int_range(size).alias("user_id"), pl.col(lists).name.map(LISTS.__getitem__))
        .filter(pl.col("item_id").list.len() > 0)
        .explode([LISTS[name] for name in lists])
    )
    request = recommender.reader.read_frame(events)
    rows = request.users.to_numpy()
    starts, ends, unknown = (np.zeros(size, np.int64) for _ in range(3))
    starts[rows], ends[rows] = request.histories.starts, request.histories.ends
    unknown[rows] = request.unknown
    at = np.full(size, recommender.schema.cutoff)
    at[rows] = request.at
    if "at" in frame.columns:
        at = _moments(frame["at"], at)
    histories = Histories(
        request.histories.items, request.histories.timestamps, request.histories.events, starts,
        ends,
    )  # fmt: skip
    return Population(frame["user_id"], histories, at, unknown)


def _check_contexts(frame: pl.DataFrame, lists: Sequence[str]) -> None:
    if "user_id" not in frame.columns:
        raise RequestError(f"contexts lack user_id: the columns are {frame.columns}")
    wrong = {name: str(frame.schema[name]) for name in lists if frame.schema[name] != pl.List}
    if wrong:
        raise RequestError(f"contexts hold one row a user, so {wrong} must be lists")
    if nulls := {name: n for name in ["user_id", *lists] if (n := frame[name].null_count())}:
        raise RequestError(f"contexts hold nulls: {nulls} rows by column; write an empty list")
    if repeated := len(frame) - frame["user_id"].n_unique():
        raise RequestError(
            f"{repeated} rows repeat a user_id: contexts hold one row a user; events of a user in "
            f"several rows are given as user_id, item_id, timestamp"
        )
    for name in lists[1:]:
        differ = frame.filter(pl.col(name).list.len() != pl.col("history").list.len())
        if len(differ):
            raise RequestError(
                f"{len(differ)} rows have another length of {name} than of history, the first is "
                f"user {differ['user_id'][0]!r}"
            )


def _moments(column: pl.Series, defaults: Ints) -> Ints:
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.epoch("us")
    if not column.dtype.is_integer():
        raise RequestError(f"at is {column.dtype}, expected a datetime or microseconds UTC")
    return column.cast(pl.Int64).fill_null(pl.Series(defaults)).to_numpy()
