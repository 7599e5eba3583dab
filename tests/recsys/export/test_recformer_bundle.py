"""Recformer from text to served answers, and an item that nobody has bought yet among them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from features.store import Dataset
from recsys.cli import app
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.training.config import TrainConfig
from recsys.training.run import train
from recsys.training.text_config import PretrainingConfig
from serving.recommender import Recommender


def load_planted() -> ModuleType:
    path = Path(__file__).parents[1] / "training" / "planted_text.py"
    spec = importlib.util.spec_from_file_location("planted_text", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shop = load_planted()
SIZES = {"dim": 32, "num_blocks": 2, "num_heads": 2, "hidden": 64, "max_len": 8, "max_tokens": 80}
SETTINGS = ExportConfig(sources=("model", "popularity"), golden_requests=3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    root = tmp_path_factory.mktemp("recformer")
    data = shop.planted(root)
    learn = PretrainingConfig(datasets=(str(data.path),), epoch_steps=100)
    config = TrainConfig(
        batch_size=32,
        max_epochs=2,
        learning_rate=3e-3,
        warmup_steps=20,
        recformer=learn,
        accelerator="cpu",
    )
    train("recformer", SIZES, config, data.path, root / "run")
    export(root / "run", data.path, SETTINGS, root / "bundle")
    return root / "bundle", data


def histories_of(data: Dataset) -> list[list[int]]:
    raw, cases = data.vocabulary("item").to_numpy(), data.cases("test")
    return [
        raw[data.items[start:cut] - 1].tolist()
        for start, cut in zip(cases.starts, cases.cuts, strict=True)
    ]


def test_a_new_item_is_recommended_to_those_its_text_is_for(
    bundle: tuple[Path, Dataset], tmp_path: Path
) -> None:
    path, data = bundle
    title = pl.read_parquet(path / "catalogue.parquet").filter(pl.col("item_id") == 1000)["title"][
        0
    ]
    new = pl.DataFrame({"item_id": [9999], "title": [title]})
    new.write_parquet(tmp_path / "new.parquet")
    command = ["add-items", str(path), str(tmp_path / "new.parquet"), "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "larger")])
    assert result.exit_code == 0, result.output
    before, after = Recommender.load(path), Recommender.load(tmp_path / "larger")
    told = {0: 0, 1: 0}
    for history in histories_of(data)[:64]:
        cluster = (history[0] - 1000) // shop.ITEMS
        old = [item.item_id for item in before.recommend(history, k=10).items]
        found = [item.item_id for item in after.recommend(history, k=10).items]
        without = [item.item_id for item in after.recommend(history, k=10, deny=[9999]).items]
        assert without == old, "old recommendations changed"
        told[int(cluster == 0)] += 9999 in found
    assert told[1] == 8  # all users of the cluster among the 64
    assert told[0] <= 8


def test_answers_of_many_are_answers_of_each(bundle: tuple[Path, Dataset]) -> None:
    path, data = bundle
    recommender = Recommender.load(path)
    histories = histories_of(data)[:7]
    rows = [(user, item) for user, items in enumerate(histories) for item in items[: user + 1]]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    many = recommender.recommend_many(frame, k=5)
    for user, items in enumerate(histories):
        one = [item.item_id for item in recommender.recommend(items[: user + 1], k=5).items]
        assert many.filter(pl.col("user_id") == user)["item_id"].to_list() == one
    assert np.isfinite(many["score"].to_numpy()).all()
