"""Users held out whole, group by group: where `HeldOutUsers` cuts a log.

A group trains, validates or tests; so two snapshots of one playlist never stand on two sides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.config import HeldOutUsers
from features.errors import InputError

Rows = NDArray[np.int64]


def columns_of_users(
    path: Path, names: Sequence[str], users: pa.Array
) -> dict[str, NDArray[np.int64]]:
    """Columns of a table of users for the given raw ids, as numbers that keep their order.

    Raises InputError where the table, a column, a user or a value is missing.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is missing, and the split names {list(names)}: load users with the events"
        )
    table = pl.read_parquet(path)
    if absent := sorted(set(names) - set(table.columns)):
        raise InputError(f"{path} lacks {absent}, which the split names; it has {table.columns}")
    wanted = pl.DataFrame({"user_id": pl.Series(pl.from_arrow(users))})
    found = wanted.join(
        table.select("user_id", *dict.fromkeys(names)),
        on="user_id",
        how="left",
        maintain_order="left",
        validate="m:1",
    )
    missing = found.filter(pl.any_horizontal(pl.col(names).is_null()))
    if len(missing):
        first = missing["user_id"].head(3).to_list()
        raise InputError(
            f"{path} has no {list(names)} for {len(missing)} of {len(wanted)} users, first {first}"
        )
    return {name: found[name].rank("dense").cast(pl.Int64).to_numpy() for name in names}


def hold_out_users(
    offsets: Rows, timestamps: Rows, config: HeldOutUsers, of_users: Mapping[str, Rows]
) -> dict[str, Rows]:
    """Cut points by the names of `layout.CUTS`, (U,) each.

    of_users: by name the columns that the split names, (U,). A held-out user of one event has no
    target and is left to nobody: neither trained on nor tested.
    """
    start, end = offsets[:-1], offsets[1:]
    groups_U = of_users[config.group] if config.group else np.arange(len(start))
    _, groups_U = np.unique(groups_U, return_inverse=True)
    num_groups = int(groups_U.max(initial=-1)) + 1
    draw = np.random.default_rng(config.seed).permutation(num_groups)
    if config.order == "newest":
        age_U = of_users[config.newest_by] if config.newest_by else timestamps[start]
        newest_G = np.full(num_groups, np.iinfo(np.int64).min)
        np.maximum.at(newest_G, groups_U, age_U)
        order_G = np.lexsort((draw, newest_G))
    else:
        order_G = draw
    num_test = max(round(config.test * num_groups), 1)
    num_validation = max(round(config.validation * num_groups), 1)
    part_G = np.zeros(num_groups, np.int8)
    part_G[order_G[max(num_groups - num_test - num_validation, 0) :]] = 1
    part_G[order_G[max(num_groups - num_test, 0) :]] = 2
    part_U = part_G[groups_U]
    length_U = end - start
    given_U = np.clip(np.floor(config.given * length_U).astype(np.int64), 1, None)
    cut_U = start + np.minimum(given_U, np.maximum(length_U - 1, 1))
    trains, validates, tests = part_U == 0, part_U == 1, part_U == 2
    return {
        "start": start,
        "train_end": np.where(trains, end, start),
        "validation_start": np.where(trains, end, np.where(validates, cut_U, start)),
        "validation_end": np.where(tests, start, end),
        "test_start": np.where(tests, cut_U, end),
        "test_end": end,
    }
