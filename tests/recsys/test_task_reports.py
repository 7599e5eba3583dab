"""The verbs about several tasks, on the made-up shop: stops, transfer, maps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data.build import build_events
from features.build import build_dataset
from features.errors import InputError
from features.store import Dataset
from recsys.cli import app
from recsys.config import read_config
from recsys.task_maps import task_maps
from recsys.task_stops import task_stops
from recsys.training.config import RankingConfig
from recsys.training.examples import held_out_examples
from recsys.training.task_config import TaskConfig
from recsys.transfer import auc_difference

CONFIG = """
[data]
source = "synthetic"
num_users = 200
num_items = 200
clicks_per_user = 16

[features]
events = ["click", "favourite", "cart", "buy"]
target_events = ["click"]
split = { name = "last-days", validation_days = 40, test_days = 40 }

[ranker]
name = "dtrn"
dim = 4
max_len = 10
layers = 2
behaviours = ["click", "cart"]
fields = ["brand"]
sizes = { hidden = [8], tower = [] }

[train_ranker]
batch_size = 128
max_epochs = 2

[train_ranker.ranking]
label_seconds = 1800
negatives = 2
targets_per_user = 4
tasks = [
    { name = "click", events = ["click"] },
    { name = "cart", events = ["cart"] },
    { name = "cart_of_clicked", events = ["cart"], among = "click" },
]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.toml, dataset/, and a report of transfer with its runs."""
    root = tmp_path_factory.mktemp("tasks")
    (root / "config.toml").write_text(CONFIG)
    config = read_config(root / "config.toml")
    build_events(config.data, root / "events")
    build_dataset(root / "events", config.features, root / "dataset")
    arguments = [str(root / "config.toml"), "--dataset", str(root / "dataset")]
    found = CliRunner().invoke(app, ["transfer", *arguments, "--out", str(root / "transfer")])
    assert found.exit_code == 0, found.output
    assert "click: AUC" in found.output
    return root


def test_each_task_is_trained_alone_and_jointly(made: Path) -> None:
    told = json.loads((made / "transfer" / "transfer.json").read_text())
    assert [one["task"] for one in told] == ["click", "cart"]  # cart_of_clicked needs click
    for one in told:
        middle, low, high = one["difference"]
        assert low <= middle <= high
        assert middle == pytest.approx(one["joint"]["auc"] - one["alone"]["auc"], abs=1e-6)
    page = (made / "transfer" / "transfer.html").read_text()
    assert "Cosine of the tasks&#x27; gradients on the tables" in page or "gradients on" in page
    assert page.count("<svg") == 2 + 2  # two tasks, two shared parts
    assert "jointly" in page


def test_a_finished_run_is_kept_and_a_foreign_one_refused(made: Path, tmp_path: Path) -> None:
    before = (made / "transfer" / "joint" / "manifest.json").stat().st_mtime_ns
    arguments = ["--dataset", str(made / "dataset"), "--out", str(made / "transfer")]
    again = CliRunner().invoke(app, ["transfer", str(made / "config.toml"), *arguments])
    assert again.exit_code == 0, again.output
    assert (made / "transfer" / "joint" / "manifest.json").stat().st_mtime_ns == before
    other = tmp_path / "other.toml"
    other.write_text(CONFIG.replace("max_epochs = 2", "max_epochs = 1"))
    refused = CliRunner().invoke(app, ["transfer", str(other), *arguments])
    assert isinstance(refused.exception, InputError)
    assert "was trained otherwise" in str(refused.exception)


def test_one_task_has_no_transfer(made: Path, tmp_path: Path) -> None:
    single = tmp_path / "single.toml"
    single.write_text(CONFIG.split("tasks = [")[0])
    arguments = ["--dataset", str(made / "dataset"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, ["transfer", str(single), *arguments])
    assert "fewer than two tasks" in str(refused.exception)


def test_the_difference_of_a_model_from_itself_is_nothing(made: Path) -> None:
    data = Dataset.open(made / "dataset")
    ranking = RankingConfig(tasks=(TaskConfig(name="click", events=("click",)),))
    examples = held_out_examples(data, "test", ranking, 0)
    noise = np.random.default_rng(0).normal(size=examples.candidates.shape).astype(np.float32)
    assert auc_difference(examples, noise, noise) == (0, 0, 0)
    better = examples.labels[..., 0] + 0.1 * noise
    middle, low, _ = auc_difference(examples, better, noise)
    assert low > 0
    assert middle > 0.3


def test_stops_are_read_off_the_journal(tmp_path: Path) -> None:
    rows = [
        {"step": 10, "auc": 0.6, "auc.click": 0.7, "auc.buy": 0.5},
        {"step": 20, "auc": 0.7, "auc.click": 0.65, "auc.buy": 0.75},
        {"step": 30, "auc": 0.68, "auc.click": 0.56, "auc.buy": 0.8},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    click, buy = task_stops(tmp_path)
    assert (click.best_step, buy.best_step, click.kept_step) == (10, 30, 20)
    assert click.lost == pytest.approx(0.05)
    assert buy.lost == pytest.approx(0.05)


def test_stops_of_a_run_are_printed(made: Path) -> None:
    found = CliRunner().invoke(app, ["tasks", str(made / "transfer" / "joint")])
    assert found.exit_code == 0
    assert "cart_of_clicked: AUC" in found.output
    alone = CliRunner().invoke(app, ["tasks", str(made / "transfer" / "alone-click")])
    assert "has no tasks apart" in str(alone.exception)


def test_maps_are_averages_of_distributions(made: Path, tmp_path: Path) -> None:
    run = made / "transfer" / "joint"
    out = tmp_path / "maps.html"
    arguments = [str(run), "--dataset", str(made / "dataset"), "--out", str(out)]
    found = CliRunner().invoke(app, ["task-maps", *arguments])
    assert found.exit_code == 0, found.output
    assert "cosine.click" in found.output
    maps = task_maps(run, made / "dataset")
    assert maps.behaviours == ("click", "cart")
    assert maps.blocks == ("item", "brand", "click", "cart")
    assert np.array(maps.attention).shape == (2, 3, 13)  # two layers: a row a task
    assert all(0 < row[0] < 1 for rows in maps.attention for row in rows)
    assert np.array(maps.gates).shape == (3, 4)
    assert math.isclose(np.array(maps.gates).mean(), 1, abs_tol=0.5)
    assert out.read_text().count("<table>") >= 4
    assert json.loads(out.with_suffix(".json").read_text())["tasks"] == list(maps.tasks)
