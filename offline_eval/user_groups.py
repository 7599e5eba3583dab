"""Users sorted by a column of their table, for the cuts of a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from features.errors import InputError
from offline_eval.cuts import Cut, by_user
from offline_eval.task import Task

GROUPS = 8
"""Groups of a column of words: the most frequent ones, and one for all others."""
QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")
UNKNOWN, OTHER = "(unknown)", "(other)"


def column_cuts(path: Path, columns: Sequence[str], user_ids: pa.Array, task: Task) -> list[Cut]:
    """A cut per column of the Parquet at `path`, which has a row a `user_id`.

    user_ids: (U,) raw ids of the task's cases. Words: the most frequent values, others together.
    Numbers with more than `GROUPS` values: quarters of the users. Users without a row or value are
    the group (unknown). Raises InputError for a missing column, repeated users, or ids of another
    type.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error})") from error
    if missing := [name for name in ("user_id", *columns) if name not in table.columns]:
        raise InputError(f"{path} has no column {missing[0]} (it has: {', '.join(table.columns)})")
    repeated = int(table["user_id"].is_duplicated().sum())
    if repeated:
        raise InputError(f"{path}: {repeated} rows repeat a user_id: keep one row a user")
    asked = pl.DataFrame({"user_id": pl.Series(pl.from_arrow(user_ids))})
    if asked["user_id"].dtype != table["user_id"].dtype:
        raise InputError(
            f"{path}: user_id is {table['user_id'].dtype}, the dataset has "
            f"{asked['user_id'].dtype}: write both with one type"
        )
    joined = asked.join(table, on="user_id", how="left", validate="m:1", maintain_order="left")
    return [_cut(joined[name], task) for name in columns]


def _cut(values: pl.Series, task: Task) -> Cut:
    numbers = values.dtype.is_numeric() and values.n_unique() > GROUPS
    groups, codes = _quarters(values) if numbers else _words(values.cast(pl.String))
    return by_user(values.name, groups, task, codes)


def _quarters(values: pl.Series) -> tuple[tuple[str, ...], np.ndarray]:
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    codes = np.digitize(numbers, edges, right=True)
    names = QUARTERS if len(edges) == 3 else tuple(f"part {i + 1}" for i in range(len(edges) + 1))
    return (*names, UNKNOWN), np.where(np.isnan(numbers), len(names), codes)


def _words(values: pl.Series) -> tuple[tuple[str, ...], np.ndarray]:
    counts = values.drop_nulls().value_counts(sort=True)
    known = counts[values.name].to_list()
    named = known if len(known) <= GROUPS else known[: GROUPS - 1]
    groups = (*sorted(named), OTHER, UNKNOWN)
    code = {name: i for i, name in enumerate(sorted(named))}
    found = [
        code.get(value, len(named)) if value is not None else len(named) + 1
        for value in values.to_list()
    ]
    return groups, np.array(found)
