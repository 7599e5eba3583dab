"""Anybody's lists measured like a bundle, and refused like one."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.errors import InputError
from features.stage import write_stage
from offline_eval.report import read_report
from recsys.evaluate_lists import evaluate_lists

USERS, ITEMS, EVENTS = 30, 15, 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lists")
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": [f"u{i // EVENTS:02}" for i in range(USERS * EVENTS)],
            "item_id": np.concatenate([rng.permutation(ITEMS)[:EVENTS] for _ in range(USERS)]),
            "timestamp": pl.Series(np.arange(USERS * EVENTS)).cast(pl.Datetime("us")),
            "event": "click",
        }
    )
    with write_stage(root / "events", kind="events", config={}, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
    build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), root / "dataset")
    log.write_parquet(root / "log.parquet")
    return root / "dataset"


def perfect(dataset: Path) -> pl.DataFrame:
    """Each user's last item at rank 1."""
    log = pl.read_parquet(dataset.parent / "log.parquet")
    last = log.group_by("user_id", maintain_order=True).last()
    return last.select("user_id", "item_id", rank=pl.lit(1))


def measured(table: pl.DataFrame, dataset: Path, tmp_path: Path, **options: bool) -> Path:
    path, out = tmp_path / "oracle.parquet", tmp_path / "report"
    table.write_parquet(path)
    baselines = ["popularity", "recent_popularity"]
    evaluate_lists(path, dataset, out, ks=(1, 5), baselines=baselines, resamples=50, **options)
    return out


def test_a_perfect_list_scores_one_and_beats_popularity(dataset: Path, tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": [f"u{i:02}" for i in range(USERS)], "odd": [0, 1] * 15})
    users.write_parquet(tmp_path / "users.parquet")
    path = tmp_path / "oracle.parquet"
    perfect(dataset).write_parquet(path)
    report = evaluate_lists(
        path, dataset, tmp_path / "report", ks=(1, 5), baselines=["popularity"], resamples=50,
        users=tmp_path / "users.parquet", user_columns=["odd"],
    )  # fmt: skip
    assert report.bundle.name == "oracle"
    assert report.bundle.estimates["ndcg@5"].value == 1
    assert report.bundle.estimates["auc"].value == 1
    assert report.comparisons[0].sentence.startswith("oracle beats popularity")
    assert {one.group for one in report.cuts if one.cut == "odd"} >= {"0", "1"}
    assert read_report(tmp_path / "report").fingerprint == report.fingerprint
    assert not any("POSSIBLE LEAK" in note for note in report.notes)


def test_lists_that_hold_seen_items_are_refused_unless_allowed(
    dataset: Path, tmp_path: Path
) -> None:
    log = pl.read_parquet(dataset.parent / "log.parquet")
    seen = log.group_by("user_id", maintain_order=True).first()
    table = seen.select("user_id", "item_id", rank=pl.lit(1))
    with pytest.raises(InputError, match=r"which is excluded for that user \(30 such places\)"):
        measured(table, dataset, tmp_path)
    assert not (tmp_path / "report").exists()
    measured(table, dataset, tmp_path, exclude_seen=False)


def test_a_missing_user_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no list for 1 of 30 users of the split .*'u00'"):
        measured(perfect(dataset).tail(USERS - 1), dataset, tmp_path)
