from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.encode import Histories
from features.stage import write_stage
from features.store import Dataset
from offline_eval.answers import Answer, ListAnswer
from offline_eval.task import Task
from recsys.contestants import Contestant, depth
from recsys.measurement import Measurement
from serving.candidates import Candidates
from serving.recommender import Recommender

NUM_USERS = 30


class Proposer(Recommender):
    """Two sources: one proposes items 1 and 2, the other items 2 to 6, whatever the history."""

    def __init__(self) -> None:
        pass

    def candidates(self, histories: Histories, *, at: np.ndarray) -> Candidates:
        rows = len(histories)
        scores = np.array([[1, 1, np.nan, np.nan, np.nan, np.nan], [np.nan, 1, 1, 1, 1, 1]])
        first, second = (np.tile(row, (rows, 1)).astype(np.float32) for row in scores)
        items = np.tile(np.arange(1, 7), (rows, 1))
        by_source = {"a": first, "b": second}
        return Candidates(items, np.zeros((rows, 6), np.uint8), first, by_source)


def listing_three_to_eight(task: Task) -> Answer:
    lists = np.tile(np.arange(3, 9), (len(task), 1))
    return ListAnswer.of(lists, task.truth, task.candidates(), (4,))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("two-stages")
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(NUM_USERS), 6),
            "item_id": rng.integers(0, 12, NUM_USERS * 6),
            "timestamp": pl.Series(np.arange(NUM_USERS * 6)).cast(pl.Datetime("us")),
            "event": "click",
        }
    )
    with write_stage(root / "events", kind="events", config={}, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
    build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), root / "dataset")
    return Dataset.open(root / "dataset")


def test_two_stages_tell_what_became_of_the_targets(data: Dataset, tmp_path: Path) -> None:
    task = Task.of(data, "test", exclude_seen=False)
    measurement = Measurement(data, task, (4,), 4, resamples=20, seed=0)
    contestant = Contestant("bundle", "bundle", listing_three_to_eight)
    measurement.run(iter([contestant]), 1, tmp_path)
    found = measurement.two_stages(Proposer())
    targets = task.truth.items
    listed, proposed = np.isin(targets, [3, 4, 5, 6]), targets <= 6
    assert list(found.fates.values()) == [
        0,
        np.count_nonzero(~listed & ~proposed),
        np.count_nonzero(~listed & proposed),
        np.count_nonzero(listed),
    ]
    assert measurement.systems[0].estimates["hit_rate@4"].value == pytest.approx(listed.mean())
    values = {name: estimate.value for name, estimate in found.recalls.items()}
    assert values == pytest.approx(
        {
            "all sources": proposed.mean(),
            "a": (targets <= 2).mean(),
            "b": (proposed & (targets > 1)).mean(),
        }
    )
    assert found.oracle.value == pytest.approx(proposed.mean())  # one target: on top or missing


def test_the_whole_catalogue_is_ordered_where_it_is_small() -> None:
    assert depth(3_416, (10,)) == 3_416
    assert depth(1_000_000, (10,)) == 1_000
    assert depth(1_000_000, (10, 5_000)) == 5_000
