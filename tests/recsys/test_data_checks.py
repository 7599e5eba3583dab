"""describe, drift, audit and asof as a user runs them, and the figures that they show."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from data.build import build_events
from data.config import Synthetic
from features import question, timeline
from features.asof import Facts, feature_names
from features.audit import audit_columns, audit_dataset
from features.build import build_dataset
from features.config import FeatureConfig
from features.description import describe_dataset
from features.drift import column_drift, compare_datasets
from features.errors import InputError
from features.stability import psi, psi_of_numbers
from features.store import Dataset
from features.timeline import ItemTimeline
from recsys.cli import app


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    build_events(Synthetic(num_users=200, num_items=200, clicks_per_user=12, days=40), root / "e")
    build_dataset(root / "e", FeatureConfig(covisit_reach=2), root / "d")
    build_dataset(root / "e", FeatureConfig(events=("click", "buy"), buckets=3), root / "d2")
    return root


def recsys(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_description_against_counting(shop: Path) -> None:
    found = describe_dataset(Dataset.open(shop / "d"))
    events = pl.read_parquet(shop / "e/events.parquet")
    events = events.unique(["user_id", "item_id", "timestamp", "event"])
    pairs = events.select("user_id", "item_id").n_unique()
    users, items = events["user_id"].n_unique(), events["item_id"].n_unique()
    assert found.sections["sizes"]["users"] == f"{users:,}"
    assert found.sections["sizes"]["density"].startswith(f"{pairs / (users * items):.4%}")
    repeat = f"{1 - pairs / len(events):.2%} of events"
    assert found.sections["repeats"]["repeat rate"].startswith(repeat)
    lengths = events.group_by("user_id").len()["len"]
    assert f"median {lengths.median():,.4g}" in found.sections["lengths"]["events a user"]
    chart = next(c for c in found.charts if c.title == "events a user")
    assert sum(chart.counts) == users
    assert found.sections["test"]["on cold items"]


def test_describe_prints_and_writes_both_forms(shop: Path, tmp_path: Path) -> None:
    for name in ("d.html", "d.json"):
        result = recsys("describe", shop / "d", "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "density" in result.output
    assert json.loads((tmp_path / "d.json").read_text())["sizes"]["users"] == "200"
    assert "<h2>events over time</h2>" in (tmp_path / "d.html").read_text()
    assert isinstance(
        recsys("describe", shop / "d", "--out", tmp_path / "d.txt").exception, InputError
    )


def test_psi_and_new_values_by_hand() -> None:
    expected = (0.25 - 0.5) * math.log(0.5) + (0.75 - 0.5) * math.log(1.5)
    assert psi(np.array([50, 50]), np.array([25, 75])) == pytest.approx(expected)
    numbers = np.arange(100.0)
    moved = np.concatenate([np.arange(50.0), np.arange(50.0)])  # the upper half moved down
    expected = 5 * (0.2 - 0.1) * math.log(2) + 5 * (0.005 - 0.1) * math.log(0.05)
    assert psi_of_numbers(numbers, moved) == pytest.approx(expected)
    assert psi_of_numbers(numbers, numbers) == pytest.approx(0)
    assert psi_of_numbers(numbers[:0], numbers) is None
    before = pl.Series(["a"] * 50 + ["b"] * 50)
    now = pl.Series(["a"] * 20 + ["b"] * 60 + ["c"] * 20 + [None] * 100)
    found = column_drift("x", before, now)
    assert found.new_share == pytest.approx(0.2)
    assert found.new_values == ("c",)
    assert (found.null_before, found.null_now) == (0, 0.5)
    assert found.verdict == "much"
    numbers = pl.Series(np.random.default_rng(0).normal(size=5_000))
    assert column_drift("n", numbers, numbers + 0.01).verdict == "little"
    assert column_drift("n", numbers, numbers + 2).verdict == "much"


def test_drift_between_datasets_and_to_requests(shop: Path, tmp_path: Path) -> None:
    same = compare_datasets(Dataset.open(shop / "d"), Dataset.open(shop / "d"))
    assert same.schema == {}
    assert {column.verdict for column in same.columns} == {"little"}
    result = recsys("drift", shop / "d", shop / "d2", "--out", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "x.json").read_text())
    assert "event_types" in told["schema"]
    event = next(c for c in told["columns"] if c["name"] == "event")
    assert event["psi"] > 0.1
    requests = pl.DataFrame({"item_id": ["P00001", "nowhere"], "event": ["click", "click"]})
    requests.write_parquet(tmp_path / "requests.parquet")
    result = recsys(
        "drift", shop / "d", tmp_path / "requests.parquet", "--out", tmp_path / "r.html"
    )
    assert result.exit_code == 0, result.output
    assert "nowhere" in (tmp_path / "r.html").read_text()


def test_no_feature_of_ours_knows_the_future(shop: Path) -> None:
    result = recsys("audit", shop / "d", "--cuts", 8)
    assert result.exit_code == 0, result.output
    assert "0 know the future" in result.output


def closed_on_the_wrong_side(self: ItemTimeline, at: Any) -> Any:
    return timeline.day_of(at) + 1


def window_off_by_one(q: question.Question) -> Any:
    days = q.day + 1 - np.array([0, 7, 30])[:, None, None]
    return q.timeline.rows_before(q.candidates_BC, days)


def of_the_whole_log(q: question.Question) -> Any:
    days = np.full_like(q.day, 2**30) - np.array([0, 7, 30])[:, None, None]
    return q.timeline.rows_before(q.candidates_BC, days)


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "closed on the wrong side": (
        lambda patch: patch.setattr(ItemTimeline, "known_day", closed_on_the_wrong_side),
        {"item_events_7d", "item_rate", "item_click_30d", "covisits"},
    ),
    "a window off by one": (
        lambda patch: patch.setattr(question.Question, "rows", property(window_off_by_one)),
        {"item_events_7d", "item_events_30d"},
    ),
    "statistics of the full log": (
        lambda patch: patch.setattr(question.Question, "rows", property(of_the_whole_log)),
        {"item_events", "item_days_since_event"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found(name: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, expected = PLANTED[name]
    plant(monkeypatch)
    found = audit_dataset(Dataset.open(shop / "d"), cuts=8)
    leaks = {leak.feature: leak for leak in found.leaks}
    assert {"item_events"} | expected <= set(leaks)
    assert not {"user_events", "seen_click"} & set(leaks)
    example = leaks["item_events"].examples[0]
    assert float(example["value"]) > float(example["without_the_future"])


COLUMNS = """
import polars as pl
def honest(events):
    before = pl.int_range(pl.len()).over("item_id")
    return events.with_columns(seen_before=before)
def full_log(events):
    return events.with_columns(popularity=pl.len().over("item_id"), x=pl.lit(1))
def one_too_far(events):
    return events.with_columns(next_item=pl.col("item_id").shift(-1).over("user_id"))
def shorter(events):
    return events.head(3)
"""


def test_columns_of_the_users_own(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(COLUMNS)
    honest = recsys("audit", shop / "e", "--columns", f"{file}:honest")
    assert honest.exit_code == 0, honest.output
    for function, column in (("full_log", "popularity"), ("one_too_far", "next_item")):
        out = tmp_path / f"{function}.json"
        result = recsys("audit", shop / "e", "--columns", f"{file}:{function}", "--out", out)
        assert result.exit_code == 1
        told = json.loads(out.read_text())["leaks"]
        assert [leak["feature"] for leak in told] == [column]
        example = told[0]["examples"][0]
        assert example["value"] != example["without_the_future"]
        assert example["user_id"]
    for name, reason in ((f"{file}:shorter", "returns 3 rows"), (f"{file}:none", "no function")):
        error = recsys("audit", shop / "e", "--columns", name).exception
        assert isinstance(error, InputError)
        assert reason in str(error)


def test_a_column_that_is_null_or_a_list_is_compared_too() -> None:
    events = pl.DataFrame({"timestamp": [1, 2, 3, 4], "a": [1, 2, 3, 4]})
    found = audit_columns(
        events, lambda e: e.with_columns(b=pl.col("a").shift(-1), c=pl.col("a").shift(1)), cuts=2
    )
    assert [leak.feature for leak in found.leaks] == ["b"]


def test_a_table_of_features_is_what_serving_would_compute(
    shop: Path, tmp_path: Path, capsys: Any
) -> None:
    names = ("user_events", "times_seen", "item_events", "at_hour")
    out = tmp_path / "table"
    result = recsys(
        "asof", shop / "d", "--out", out, "--split", "test", "--features", ",".join(names)
    )
    assert result.exit_code == 0, result.output
    table = pl.DataFrame(pl.from_arrow(pq.read_table(out / "features.parquet")))
    data = Dataset.open(shop / "d")
    targets = int((data.cuts["test_end"] - data.cuts["test_start"]).sum())
    assert len(table) == targets
    for row in table.sample(20, seed=0).iter_rows(named=True):
        start = data.cuts["start"][row["user"]]
        end = data.cuts["test_end"][row["user"]]
        place = next(
            r
            for r in range(data.cuts["test_start"][row["user"]], end)
            if data.timestamps[r] == row["at"]
            and data.items[r] == row["item"]
            and data.events[r] == row["event"]
        )
        assert row["user_events"] == pytest.approx(math.log(1 + place - start))
        assert row["times_seen"] == (data.items[start:place] == row["item"]).sum()
    trained = recsys("asof", shop / "d", "--out", tmp_path / "t", "--split", "training",
                     "--features", "user_events")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    every = pq.read_table(tmp_path / "t/features.parquet")
    assert every.num_rows == int((data.cuts["train_end"] - data.cuts["start"]).sum())
    first = np.flatnonzero(np.diff(every["user"].to_numpy(), prepend=-1))
    assert not every["user_events"].to_numpy()[first].any()  # nothing came before
    sample = recsys("asof", shop / "d", "--out", tmp_path / "few", "--max-rows", 10)
    assert sample.exit_code == 0, sample.output
    few = pq.read_table(tmp_path / "few/features.parquet")
    assert few.num_rows == 10
    every = feature_names(data.schema.item_columns, (), "all", Facts.of(data.schema))
    assert few.column_names[4:] == list(every)
