from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.encode import Histories
from features.errors import InputError
from offline_eval.cuts import Cut
from offline_eval.hits import Truth
from offline_eval.task import Task
from offline_eval.user_groups import column_cuts

IDS = pa.array(["ada", "bob", "eve", "dan"])


def task() -> Task:
    truth = Truth.of(np.array([0, 0, 1, 2, 3]), np.array([1, 2, 1, 1, 1]), 4)
    none = Histories.of([[1]] * 4)
    return Task(np.arange(4), none, np.zeros(4, np.int64), truth, 2, False, 0)


def cut_of(tmp_path: Path, table: pl.DataFrame, column: str) -> Cut:
    path = tmp_path / "users.parquet"
    table.write_parquet(path)
    [cut] = column_cuts(path, [column], IDS, task())
    return cut


def test_words_are_groups_and_who_is_not_in_the_table_is_unknown(tmp_path: Path) -> None:
    table = pl.DataFrame({"user_id": ["bob", "ada", "eve"], "land": ["se", "de", None]})
    cut = cut_of(tmp_path, table, "land")
    assert [cut.groups[code] for code in cut.codes] == [
        "de", "de", "se", "(unknown)", "(unknown)",
    ]  # fmt: skip
    assert cut.targets["de"] == 2


def many(tmp_path: Path, name: str, values: list) -> Cut:
    """A cut of as many users as values, one target each."""
    count = len(values)
    truth = Truth.of(np.arange(count), np.ones(count, int), count)
    none = Histories.of([[1]] * count)
    asked = Task(np.arange(count), none, np.zeros(count, np.int64), truth, 2, False, 0)
    path = tmp_path / "users.parquet"
    pl.DataFrame({"user_id": np.arange(count), name: values}).write_parquet(path)
    [cut] = column_cuts(path, [name], pa.array(np.arange(count)), asked)
    return cut


def test_rare_words_stand_together(tmp_path: Path) -> None:
    cut = many(tmp_path, "word", [f"w{i}" for i in range(20)] + ["often"] * 3)
    assert cut.groups[cut.codes[-1]] == "often"
    assert len(cut.groups) == 9
    assert cut.targets["(other)"] == 14


def test_numbers_are_quarters(tmp_path: Path) -> None:
    cut = many(tmp_path, "age", [*range(1, 101), None])
    counts = [25, 25, 25, 25, 1]
    assert list(cut.targets.values()) == counts
    assert [cut.groups[cut.codes[i]] for i in (0, 30, 99, 100)] == [
        "lowest quarter",
        "second quarter",
        "highest quarter",
        "(unknown)",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pl.DataFrame({"user_id": ["ada"]}), r"no column land \(it has: user_id\)"),
        (pl.DataFrame({"user_id": [1], "land": ["de"]}), "user_id is Int64, the dataset has Str"),
        (pl.DataFrame({"user_id": ["a", "a"], "land": ["x", "y"]}), "2 rows repeat a user_id"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, table: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut_of(tmp_path, table, "land")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        column_cuts(tmp_path / "absent", ["land"], IDS, task())
