"""Sessions split by time, measured end to end: every prefix a case, sessions drawn together."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, SessionTime
from features.errors import InputError
from features.stage import write_stage
from features.store import Dataset
from offline_eval.compare import compare
from offline_eval.report import Report
from recsys.evaluate import evaluate
from recsys.evaluate_lists import evaluate_lists
from tests.recsys.popular_bundle import write_popular

SESSIONS, DAY, K = 120, 86_400_000_000, 3
PLANTED = {(5, 1): 800, (6, 1): 800, (SESSIONS - 2, 1): 800, (SESSIONS - 3, 1): 1}
"""Items by session and place: a target that training saw twice, and one that it saw often."""


def some_sessions(path: Path) -> pl.DataFrame:
    """A session a day of 2 to 6 clicks; items 90 to 94 come in the last ten days only."""
    rng = np.random.default_rng(4)
    rows = []
    for session in range(SESSIONS):
        for place in range(int(rng.integers(2, 7))):
            new = session >= SESSIONS - 10 and rng.random() < 0.4
            item = int(rng.integers(90, 95)) if new else int(rng.geometric(0.1))
            item = PLANTED.get((session, place), item)
            rows.append((f"u{session % 7}", item, session * DAY + place * 1_000_000))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log = log.with_columns(pl.col("timestamp").cast(pl.Datetime("us")), event=pl.lit("view"))
    with write_stage(path, kind="events", config={}, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
    return log


def measured(tmp_path: Path) -> tuple[pl.DataFrame, Report, list[int]]:
    """The log, the report of a popularity bundle over it, and raw item ids in its order."""
    log = some_sessions(tmp_path / "events")
    split = SessionTime(validation_days=10, test_days=10)
    dataset, bundle, out = tmp_path / "dataset", tmp_path / "bundle", tmp_path / "report"
    build_dataset(tmp_path / "events", FeatureConfig(split=split, duplicates="keep"), dataset)
    data = Dataset.open(dataset)
    ids = data.vocabulary("item").to_pylist()
    scores = np.append(0, np.arange(len(ids))[::-1] + 1.0)  # dense id 1 first
    write_popular(bundle, dataset, scores, exclude_seen=False)
    baselines = ("popularity", "session_knn")
    report = evaluate(bundle, dataset, out, ks=(K,), baselines=baselines, resamples=50)
    return log, report, ids


def test_every_prefix_is_measured_and_sessions_are_the_units(tmp_path: Path) -> None:
    log, report, ids = measured(tmp_path)
    log = log.with_columns(day=pl.col("timestamp").dt.epoch("d"))
    before = pl.col("timestamp") <= log["timestamp"].max() - timedelta(days=20)
    counts = log.filter(before)["item_id"].value_counts()
    seen = dict(counts.iter_rows())
    per_session, groups = [], {"cold": [], "sparse": [], "standard": []}
    late = log.filter(pl.col("day") >= SESSIONS - 10)
    for session in late.partition_by("day", maintain_order=True):
        targets = session["item_id"].to_list()[1:]
        hits = [target in ids[:K] for target in targets]
        per_session.append(hits)
        for target, hit in zip(targets, hits, strict=True):
            times = seen.get(target, 0)
            view = "cold" if not times else "sparse" if times < 5 else "standard"
            groups[view].append(hit)
    cases = sum(map(len, per_session))
    found = report.systems[0].estimates[f"hit_rate@{K}"]
    assert report.counts["cases"] == cases > 20
    assert found.value == pytest.approx(sum(map(sum, per_session)) / cases)
    assert found.defined == cases
    for view, hits in groups.items():
        assert hits
        [row] = [
            cut
            for cut in report.cuts
            if cut.cut == "view"
            and cut.group.startswith(view)
            and cut.system == "bundle"
            and cut.metric == f"hit_rate@{K}"
        ]
        assert row.estimate.value == pytest.approx(np.mean(hits))
        assert row.targets == len(hits)


def test_reports_are_compared_session_by_session(tmp_path: Path) -> None:
    _, report, _ = measured(tmp_path)
    out = tmp_path / "report"
    side_by_side = compare([("one", out), ("other", out)], resamples=50)
    assert side_by_side.users == 10  # sessions, not cases
    entry = next(e for e in side_by_side.entries if e.name == "one")
    ndcg = f"ndcg@{K}"
    assert entry.estimates[ndcg].value == pytest.approx(
        report.systems[0].estimates[ndcg].value, rel=1e-5
    )
    test = next(c for c in side_by_side.comparisons if (c.first, c.second) == ("other", "one"))
    assert test.difference.value == 0


def test_a_file_of_lists_cannot_answer_every_prefix(tmp_path: Path) -> None:
    measured(tmp_path)
    lists = tmp_path / "lists.parquet"
    pl.DataFrame({"user_id": ["u0/1"], "item_id": [1], "rank": [1]}).write_parquet(lists)
    with pytest.raises(InputError, match="every prefix of a history"):
        evaluate_lists(lists, tmp_path / "dataset", tmp_path / "other", ks=(K,))
