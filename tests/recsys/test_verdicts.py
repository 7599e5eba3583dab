"""The verbs compare, report, off-policy and measure, as people call them."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from features.errors import InputError
from features.stage import write_stage
from offline_eval.records import PER_USER_FILE, BlockWriter, user_rows
from offline_eval.report import METRICS_FILE, Report, System
from offline_eval.significance import estimate_means
from recsys.cli import app


def recsys(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def reports(tmp_path: Path) -> list[Path]:
    found = []
    for name, gain in (("one", 0.0), ("two", 0.1)):
        ndcg = np.random.default_rng(0).random(80) / 2 + gain
        report = Report(
            title=name, protocol={"split": "test"}, counts={}, comparisons=[], notes=[], ks=(10,),
            systems=[System(name="bundle", kind="bundle",
                            estimates={"ndcg@10": estimate_means(ndcg[:, None])[0]})],
            main_k=10, ceiling={}, cuts=[], two_stages=[], examples=[],
        )  # fmt: skip
        with write_stage(tmp_path / name, kind="report", config={}, parent="") as directory:
            (directory / METRICS_FILE).write_text(report.to_json())
            with BlockWriter(directory / PER_USER_FILE) as users:
                users.write(user_rows("bundle", pa.array(np.arange(80)), {}, {"ndcg@10": ndcg}))
        found.append(tmp_path / name)
    return found


def test_compare_prints_and_writes(reports: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    told = recsys("compare", f"old={reports[0]}", f"new={reports[1]}", "--out", out)
    assert "new beats old on NDCG@10: +0.1000" in told
    assert {path.name for path in out.iterdir()} == {
        "comparison.json",
        "comparison.md",
        "comparison.html",
    }
    with pytest.raises(InputError, match="exists"):
        recsys("compare", reports[0], "--out", out)


def test_a_report_in_every_form(reports: list[Path], tmp_path: Path) -> None:
    assert "NDCG@10" in recsys("report", reports[0])
    assert json.loads(recsys("report", reports[0], "--as", "json"))["title"] == "one"
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"step": 5, "epoch": 1, "loss": 3.0}, {"step": 9, "epoch": 2, "loss": 2.0}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recsys("report", reports[0], "--as", "html", "--run", run, "--out", tmp_path / "r.html")
    assert "Learning curves" in (tmp_path / "r.html").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no learning curves"):
        recsys("report", reports[0], "--run", tmp_path / "empty")


def test_off_policy_from_two_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    count = 400
    log = pl.DataFrame(
        {
            "request_id": [f"q{i}" for i in range(count)],
            "at": pl.Series([datetime(2026, 1, 1)] * count).cast(pl.Datetime("us")),
            "user_id": [i // 2 for i in range(count)],
            "item_id": rng.integers(0, 2, count),
            "rank": np.ones(count, np.int32),
            "propensity": np.full(count, 0.5),
        }
    ).with_columns(reward=pl.col("item_id").cast(pl.Float64))
    policy = log.select("request_id", "rank", item_id=pl.lit(1, pl.Int64), probability=pl.lit(1.0))
    log.write_parquet(tmp_path / "log.parquet")
    policy.write_parquet(tmp_path / "policy.parquet")
    told = recsys("off-policy", tmp_path / "log.parquet", tmp_path / "policy.parquet",
                  "--out", tmp_path / "found.json")  # fmt: skip
    assert "The new policy earns MORE" in told
    assert json.loads((tmp_path / "found.json").read_text())["snips"]["value"] == 1.0


def test_measure_a_ranker_and_an_outcome(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    chance = rng.random(600)
    path, page = tmp_path / "examples.parquet", tmp_path / "page.html"
    frame = pl.DataFrame(
        {"label": rng.random(600) < chance, "probability": chance, "user": rng.integers(0, 40, 600)}
    )
    frame.write_parquet(path)
    told = recsys("measure", path, "--group", "user", "--out", page)
    assert "GAUC" in told
    assert "Reliability" in page.read_text()
    assert "http" not in page.read_text()
    assert "C-MCC" in recsys("measure", path, "--alpha", "0.05")
    with pytest.raises(InputError, match="not both"):
        recsys("measure", path, "--alpha", "0.05", "--group", "user")
    frame.with_columns(label=2).write_parquet(path)
    with pytest.raises(InputError, match="600 of 600 labels are neither 0 nor 1"):
        recsys("measure", path)
    frame.drop("label").write_parquet(path)
    with pytest.raises(InputError, match="no column label"):
        recsys("measure", path)
