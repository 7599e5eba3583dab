from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.errors import InputError
from offline_eval.lists_file import read_lists

USERS, ITEMS = pa.array(["ada", "bob"]), pa.array(["x", "y", "z"])


def lists(tmp_path: Path, table: pl.DataFrame, *, seed: int = 0) -> np.ndarray:
    path = tmp_path / "lists.parquet"
    table.write_parquet(path)
    return read_lists(path, USERS, ITEMS, depth=3, seed=seed)


def good(**columns: list) -> pl.DataFrame:
    table = {
        "user_id": ["bob", "ada", "ada", "eve"],
        "item_id": ["z", "x", "y", "x"],
        "score": [1.0, 0.25, 0.5, 9.0],
    }
    return pl.DataFrame(table | columns)


def test_scores_order_the_lists_and_other_users_are_left_out(tmp_path: Path) -> None:
    assert lists(tmp_path, good()).tolist() == [[2, 1, 0], [3, 0, 0]]


def test_ranks_order_the_lists(tmp_path: Path) -> None:
    table = good().drop("score").with_columns(rank=pl.Series([1, 7, 2, 1]))
    assert lists(tmp_path, table).tolist() == [[2, 1, 0], [3, 0, 0]]


def test_equal_scores_stand_in_random_order(tmp_path: Path) -> None:
    table = good(score=[1.0, 0.5, 0.5, 1.0])
    first = {int(lists(tmp_path, table, seed=seed)[0, 0]) for seed in range(20)}
    assert first == {1, 2}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (good(score=[1.0, float("nan"), 0.5, 1.0]), r"1 of 4 rows have a score that is nan.*'ada'"),
        (good(item_id=["z", "x", "x", "x"]), "1 of 4 rows repeat an item of the same user"),
        (good(user_id=["eve", "ada", "ada", "eve"], item_id=["y", "x", "y", "x"]),
         r"no list for 1 of 2 users of the split \(first: \['bob'\]\)"),
        (good(item_id=["q", "x", "r", "x"]), r"lists 2 items that the dataset does not know"),
        (good().head(0), "is empty"),
        (good(score=[1.0, None, 0.5, 1.0]), "1 of 4 rows have no user_id, item_id or score"),
        (good().drop("score"), "neither rank nor score"),
        (good().drop("score").with_columns(rank=pl.lit(1)), "1 of 4 rows have a rank below 1, or"),
        (good(item_id=[1, 2, 3, 4]), "item_id is Int64, the dataset has String"),
    ],
)  # fmt: skip
def test_bad_lists_are_refused(tmp_path: Path, table: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lists(tmp_path, table)
