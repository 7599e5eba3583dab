from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from offline_eval.records import BlockWriter, prediction_rows, user_rows

USERS, ITEMS = pa.array(["ann", "bob"]), pa.array([70, 80, 90])


def test_predictions_are_rows_of_raw_ids(tmp_path: Path) -> None:
    hits = np.array([[False, True], [False, False]])
    with BlockWriter(tmp_path / "p") as writer:
        writer.write(prediction_rows("mine", USERS, ITEMS, np.array([[3, 1], [2, 0]]), hits))
        writer.write(prediction_rows("theirs", USERS, ITEMS, np.array([[0, 0], [1, 2]]), ~hits))
    frame = pl.read_parquet(tmp_path / "p").with_columns(pl.col("system").cast(pl.String))
    assert frame.rows() == [
        ("mine", "ann", 1, 90, False),
        ("mine", "ann", 2, 70, True),
        ("mine", "bob", 1, 80, False),
        ("theirs", "bob", 1, 70, True),
        ("theirs", "bob", 2, 80, True),
    ]


def test_undefined_values_stay_undefined(tmp_path: Path) -> None:
    values = {"auc": np.array([0.25, np.nan])}
    with BlockWriter(tmp_path / "u") as writer:
        writer.write(user_rows("mine", USERS, {"history_length": np.array([3, 0])}, values))
    frame = pl.read_parquet(tmp_path / "u")
    assert frame["user_id"].to_list() == ["ann", "bob"]
    assert frame["history_length"].to_list() == [3, 0]
    assert frame["auc"].is_nan().to_list() == [False, True]
