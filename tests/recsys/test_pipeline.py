"""All stages of one small config: made once, kept afterwards, never mistaken for another's."""

import json
from pathlib import Path

import pytest

from features.errors import InputError
from recsys.pipeline import run_pipeline

CONFIG = """
[data]
source = "synthetic"
num_users = 60
num_items = 64
clicks_per_user = 8

[features]
events = ["click"]
split = { name = "leave-one-out" }

[export]
sources = ["item_knn", "popularity"]
neighbours = 5

[evaluate]
baselines = ["popularity"]
resamples = 20
"""
STAGES = ["events", "dataset", "bundle", "report"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def test_every_stage_is_made_once_and_kept_afterwards(config: Path, tmp_path: Path) -> None:
    root, said = tmp_path / "out", list[str]()
    run_pipeline(config, root, said.append)
    assert sorted(path.name for path in root.iterdir()) == sorted(STAGES)
    assert [line.split()[0] for line in said] == STAGES
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    said.clear()
    run_pipeline(config, root, said.append)
    assert len(said) == len(STAGES)
    assert all(line.endswith("is there already") for line in said)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


RANKER = """
[ranker]
name = "average_pooling"
max_len = 10
dim = 4
hidden = [8, 4]

[train_ranker]
max_epochs = 1
accelerator = "cpu"
"""


def test_a_second_stage_of_the_config_is_trained_exported_and_measured(
    config: Path, tmp_path: Path
) -> None:
    text = CONFIG.replace("neighbours = 5", 'neighbours = 5\nranker = "neural"') + RANKER
    config.write_text(text)
    root, said = tmp_path / "out", list[str]()
    run_pipeline(config, root, said.append)
    assert [line.split()[0] for line in said] == ["events", "dataset", "ranker", "bundle", "report"]
    manifest = json.loads((root / "bundle/manifest.json").read_text())
    assert manifest["ranker"]["model"] == "average_pooling"
    said.clear()
    run_pipeline(config, root, said.append)
    assert all(line.endswith("is there already") for line in said)
    config.write_text(text.replace("max_epochs = 1", "max_epochs = 2"))
    with pytest.raises(InputError, match="ranker-run was made by another config"):
        run_pipeline(config, root, said.append)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_users = 60", "num_users = 61", r"found num_users = 60, the config says 61"),
        ('["click"]', '["buy"]', r"dataset was made by another config \(found events"),
        ("neighbours = 5", "neighbours = 6", r"bundle was made by another config \(found neigh"),
    ],
)
def test_a_stage_of_another_config_is_refused(
    old: str, new: str, message: str, config: Path, tmp_path: Path
) -> None:
    run_pipeline(config, tmp_path / "out", lambda _: None)
    config.write_text(CONFIG.replace(old, new))
    with pytest.raises(InputError, match=message):
        run_pipeline(config, tmp_path / "out", lambda _: None)


def test_a_stage_whose_parent_was_replaced_is_refused(config: Path, tmp_path: Path) -> None:
    root, other = tmp_path / "out", tmp_path / "other"
    run_pipeline(config, root, lambda _: None)
    config.write_text(CONFIG.replace("num_users = 60", "num_users = 61"))
    run_pipeline(config, other, lambda _: None)
    (root / "events").rename(tmp_path / "old")
    (other / "events").rename(root / "events")
    with pytest.raises(InputError, match="dataset was made from another parent stage"):
        run_pipeline(config, root, lambda _: None)
