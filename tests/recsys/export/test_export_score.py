"""Batch scoring of a dataset with a bundle exported from it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import Synthetic
from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.errors import InputError
from features.store import Dataset
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from serving.batch import score
from serving.jobs.executors import local
from serving.jobs.plan import Question
from serving.recommender import Recommender


@pytest.fixture(scope="module")
def bundle(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("score") / "bundle"
    export(None, inputs.dataset, ExportConfig(), out)
    return out


@pytest.mark.parametrize("history", ["all", "test"])
def test_users_of_a_dataset_are_scored_from_their_histories(
    inputs: Any, bundle: Path, tmp_path: Path, history: Any
) -> None:
    out = tmp_path / "scores"
    question = Question(what="rows", k=5, history=history)
    score(bundle, inputs.dataset, out, question=question, part_size=64, executor=local(1))
    scores = pl.read_parquet(out / "part-*.parquet")
    data = Dataset.open(inputs.dataset)
    users, items = data.vocabulary("user").to_pylist(), data.vocabulary("item").to_pylist()
    assert scores["user_id"].unique(maintain_order=True).to_list() == users
    recommender = Recommender.load(bundle)
    ends = data.cuts["test_end" if history == "all" else "test_start"]
    for row in range(0, len(users), 17):
        rows = slice(data.cuts["start"][row], ends[row])
        seen = zip(data.items[rows], data.timestamps[rows].tolist(), strict=True)
        expected = recommender.recommend([(items[item - 1], time) for item, time in seen], k=5)
        found = scores.filter(pl.col("user_id") == users[row])
        assert found["item_id"].to_list() == [item.item_id for item in expected.items]
        scored = [item.score for item in expected.items]
        np.testing.assert_allclose(found["score"], scored, rtol=1e-5)


def test_a_dataset_of_other_items_is_refused(inputs: Any, bundle: Path, tmp_path: Path) -> None:
    shop = Synthetic(num_users=50, num_items=120, clicks_per_user=8, seed=1)
    build_events(shop, tmp_path / "events")
    build_dataset(tmp_path / "events", FeatureConfig(split=LeaveOneOut()), tmp_path / "dataset")
    with pytest.raises(InputError, match="knows other items"):
        score(bundle, tmp_path / "dataset", tmp_path / "scores")
