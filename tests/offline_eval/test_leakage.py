"""Each kind of leak is planted in a clean dataset, and found; the clean one has none."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, GlobalTime
from features.stage import write_stage
from features.store import Dataset
from offline_eval.leakage import (
    Finding,
    lint_dataset,
    lint_features,
    lint_statistics,
    lint_time,
)
from offline_eval.task import Task

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log of 20 users over 50 days, and a table that says since when each item exists."""
    root = tmp_path_factory.mktemp("leaks")
    rng = np.random.default_rng(0)
    days = np.sort(rng.integers(1, 50, (20, 12)), axis=1)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(20), 12),
            "item_id": rng.integers(0, 9, 240),
            "timestamp": pl.Series(days.ravel() * DAY).cast(pl.Datetime("us")),
            "event": "click",
        }
    )
    items = pl.DataFrame(
        {"item_id": np.arange(9), "since": pl.Series(np.zeros(9, int) + 5).cast(pl.Datetime("us"))}
    )
    config = {"item_columns": {"since": "timestamp"}}
    with write_stage(root / "events", kind="events", config=config, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
        items.write_parquet(directory / "items.parquet")
    split = GlobalTime(validation=0.1, test=0.2)
    build_dataset(root / "events", FeatureConfig(split=split), root / "dataset")
    return Dataset.open(root / "dataset")


def found(data: Dataset, task: Task | None = None) -> dict[str, Finding]:
    task = Task.of(data, "test", exclude_seen=False) if task is None else task
    return {one.kind: one for one in lint_dataset(data, task, "test")}


def test_a_clean_dataset_has_no_finding(data: Dataset) -> None:
    assert found(data) == {}
    assert any(column.kind == "timestamp" for column in data.schema.item_columns)


def test_a_training_event_that_is_a_target_too(data: Dataset) -> None:
    items, times = data.items.copy(), data.timestamps.copy()
    user = data.cases("test").users[0]
    trained, target = data.cuts["start"][user], data.cuts["test_start"][user]
    items[trained], times[trained] = items[target], times[target]
    leak = found(replace(data, items=items, timestamps=times))["duplicates"]
    assert leak.count == 1
    assert f"first user rows [{user}]" in leak.told


def test_a_history_that_knows_the_future(data: Dataset) -> None:
    task = Task.of(data, "test", exclude_seen=False)
    at = task.at.copy()
    at[2] = task.histories.timestamps[task.histories.starts[2]] - 1
    leak = found(data, replace(task, at=at))["future events"]
    assert leak.count == 1
    assert "first cases [2]" in leak.told


def test_an_item_from_the_future(data: Dataset) -> None:
    since = data.item_table["since"].copy()
    item = data.items[data.cuts["test_start"][data.cases("test").users[0]]]
    since[item] = 60 * DAY
    planted = replace(data, item_table={**data.item_table, "since": since})
    leak = found(planted)["future items"]
    assert leak.count >= 1
    assert f"first item ids [{item}]" in leak.told


def test_statistics_that_count_the_test(data: Dataset) -> None:
    training = data.training_histories()
    rows = np.concatenate(
        [np.arange(a, b) for a, b in zip(training.starts, training.ends, strict=True)]
    )
    size = data.schema.num_items + 1
    clean = np.bincount(data.items[rows], minlength=size)
    assert lint_statistics(clean, data, "test") == []
    [leak] = lint_statistics(np.bincount(data.items, minlength=size), data, "test")
    assert "they count events of the test split" in leak.told


def test_a_feature_made_from_the_label() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.2
    noise = rng.random(500)
    features = {
        "honest": noise + 0.5 * labels,
        "leaked": labels + noise / 2,
        "turned": np.where(labels, np.nan, noise),
    }
    assert [one.told.split()[0] for one in lint_features(labels, features)] == ["leaked", "turned"]
    assert lint_features(np.zeros(500, bool), features) == []


def test_a_feature_that_changes_when_the_future_is_taken_away() -> None:
    rng = np.random.default_rng(2)
    honest = rng.random((50, 2))
    honest[3, 1] = np.nan
    assert lint_time(honest, honest.copy(), ["a", "b"]) == []
    future = honest.copy()
    future[:7, 1] += 1
    [leak] = lint_time(future, honest, ["a", "b"])
    assert leak.told.startswith("b changes for 6 of 50 examples") or leak.count == 7
    assert "POSSIBLE LEAK (time)" in str(leak)
