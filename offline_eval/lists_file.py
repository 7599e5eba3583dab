"""Recommendation lists from a Parquet file -> dense lists of a task's cases, checked and counted.

A row an item: `user_id`, `item_id`, and either `rank` (1 is the top) or `score` (higher is better).
"""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from features.errors import InputError
from features.schema import ID_TYPES, check_types

SHOWN = 3
"""Offenders named in an error."""


def read_lists(
    path: Path, user_ids: pa.Array, item_ids: pa.Array, *, depth: int, seed: int = 0
) -> NDArray[np.int64]:
    """(C, depth) dense item ids, best first, padded with 0, one row a case.

    user_ids: (C,) raw ids of the cases. item_ids: element i is dense id i + 1. Equal scores are put
    in a random order (seed), because the file's order would favour whoever wrote it. Rows of users
    that are no case are left out. Raises InputError, with counts and the first offenders: no rows,
    scores that are nan, an item twice in a list, items that are unknown, cases without a list.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error})") from error
    check_types(table, str(path), {"user_id": ID_TYPES, "item_id": ID_TYPES})
    order = next((name for name in ("rank", "score") if name in table.columns), None)
    if order is None:
        raise InputError(f"{path} has neither rank nor score (it has: {', '.join(table.columns)})")
    _check_rows(table, order, path)
    cases = _numbered(user_ids, "user_id", "case")
    items = _numbered(item_ids, "item_id", "item", first=1)
    for name, known in (("user_id", cases), ("item_id", items)):
        if table.schema[name] != known.schema[name]:
            raise InputError(
                f"{path}: {name} is {table.schema[name]}, the dataset has {known.schema[name]}: "
                "write both with one type"
            )
    table = table.join(cases, on="user_id", how="inner")
    missing = cases.join(table, on="user_id", how="anti")
    if len(missing):
        raise InputError(
            f"{path} has no list for {len(missing):,} of {len(cases):,} users of the split (first: "
            f"{missing['user_id'].head(SHOWN).to_list()}): a system is measured on every user"
        )
    table = table.join(items, on="item_id", how="left")
    unknown = table.filter(pl.col("item").is_null())["item_id"].unique(maintain_order=True)
    if len(unknown):
        raise InputError(
            f"{path} lists {len(unknown):,} items that the dataset does not know (first: "
            f"{unknown.head(SHOWN).to_list()}): leave them out, or evaluate on the data they are in"
        )
    return _dense(table, order, len(cases), depth, seed)


def _check_rows(table: pl.DataFrame, order: str, path: Path) -> None:
    pair = pl.struct("user_id", "item_id")
    value = pl.col(order)
    faults = {
        "have no user_id, item_id or " + order: pl.any_horizontal(
            pl.col("user_id", "item_id", order).is_null()
        ),
        "repeat an item of the same user": ~pair.is_first_distinct(),
    }
    if order == "score":
        faults["have a score that is nan: did the model diverge?"] = value.cast(pl.Float64).is_nan()
    else:
        place = pl.struct("user_id", order)
        faults["have a rank below 1, or one that the same user has already"] = (value < 1) | (
            ~place.is_first_distinct()
        )
    if table.is_empty():
        raise InputError(f"{path} is empty: it has the columns, and no rows")
    for told, fault in faults.items():
        bad = table.filter(fault)
        if len(bad):
            first = bad.select("user_id", "item_id", order).row(0, named=True)
            raise InputError(f"{path}: {len(bad):,} of {len(table):,} rows {told} (first: {first})")


def _numbered(ids: pa.Array, column: str, name: str, first: int = 0) -> pl.DataFrame:
    series = pl.Series(column, pl.from_arrow(ids))
    return series.to_frame().with_row_index(name, offset=first).cast({name: pl.Int64})


def _dense(
    table: pl.DataFrame, order: str, num_cases: int, depth: int, seed: int
) -> NDArray[np.int64]:
    case, item = table["case"].to_numpy(), table["item"].to_numpy()
    value = table[order].cast(pl.Float64).to_numpy()
    best_first = value if order == "rank" else -value
    ties = np.random.default_rng(seed).random(len(value))
    rows = np.lexsort([ties, best_first, case])
    case, item = case[rows], item[rows]
    counts = np.bincount(case, minlength=num_cases)
    place = np.arange(len(case)) - (np.cumsum(counts) - counts)[case]
    kept = place < depth
    lists = np.zeros((num_cases, depth), np.int64)
    lists[case[kept], place[kept]] = item[kept]
    return lists
