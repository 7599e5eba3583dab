"""Recformer from text to served answers, and an item that nobody has bought yet among them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from features.errors import InputError
from features.store import Dataset
from recsys.cli import app
from recsys.export import item_encoder
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.item_encoder import LEAST_KEPT
from recsys.export.reuse import known_vectors
from recsys.training.config import TrainConfig
from recsys.training.run import load_retriever, train
from recsys.training.text_config import PretrainingConfig, ZeroShotConfig
from serving.bundle import open_bundle
from serving.errors import BundleError
from serving.item_encoder import ItemEncoder
from serving.manifest import ModelSpec
from serving.recommender import Recommender
from tests.recsys.training import planted_text as shop

SIZES = {"dim": 32, "num_blocks": 2, "num_heads": 2, "hidden": 64, "max_len": 8, "max_tokens": 80}
SETTINGS = ExportConfig(sources=("model", "popularity"), golden_requests=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
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
    return root / "run", data


@pytest.fixture(scope="module")
def bundle(run: tuple[Path, Dataset]) -> tuple[Path, Dataset]:
    path, data = run
    export(path, data.path, SETTINGS, path.parent / "bundle")
    return path.parent / "bundle", data


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


@pytest.fixture(scope="module")
def small(run: tuple[Path, Dataset]) -> Path:
    """The same as `bundle`, items encoded with 8-bit products."""
    path, data = run
    export(path, data.path, replace(SETTINGS, item_precision="int8"), path.parent / "small")
    return path.parent / "small"


def model_spec(path: Path) -> ModelSpec:
    (spec,) = [one for one in open_bundle(path).manifest.sources if isinstance(one, ModelSpec)]
    return spec


def item_graph(path: Path) -> Path:
    return path / model_spec(path).item_encoder


def test_items_encoded_with_8_bit_products_stay_where_they_are(
    bundle: tuple[Path, Dataset], small: Path
) -> None:
    path, data = bundle
    manifest = open_bundle(small).manifest
    kept = [parity.neighbours_kept for parity in manifest.item_parity]
    assert kept[:-1] == [None, None, None]  # of the exact graph, beside torch
    assert kept[-1] is not None
    assert kept[-1] >= LEAST_KEPT
    assert manifest.files.keys() == open_bundle(path).manifest.files.keys()
    assert item_graph(small).stat().st_size < item_graph(path).stat().st_size
    sentences = data.item_table["sentence"][1:]
    for graph in (item_graph(path), item_graph(small)):
        encoder = ItemEncoder.load(graph, ("sentence",), SIZES["dim"])
        together = encoder.encode({"sentence": sentences})
        for row in (0, 17, len(sentences) - 1):  # whatever the company
            alone = encoder.encode({"sentence": sentences[row : row + 1]})
            assert np.array_equal(alone[0], together[row])
    title = pl.read_parquet(small / "catalogue.parquet").filter(pl.col("item_id") == 1000)["title"]
    twin = pl.DataFrame({"item_id": [9999], "title": title})
    after = Recommender.load(small).add_items(twin)
    told = [
        (history[0] - 1000) // shop.ITEMS
        for history in histories_of(data)[:64]
        if 9999 in [item.item_id for item in after.recommend(history, k=10).items]
    ]
    assert told.count(0) == 8  # all users of the cluster


def test_8_bit_products_that_move_items_are_refused(
    run: tuple[Path, Dataset],
    bundle: tuple[Path, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _ = load_retriever(run[0])
    monkeypatch.setattr(item_encoder, "neighbours_kept", lambda *_: LEAST_KEPT - 0.01)
    with pytest.raises(BundleError, match=r"keep 94.0% .* set export.item_precision = 'float32'"):
        item_encoder.quantize_item_encoder(
            model, run[1].item_table, item_graph(bundle[0]), tmp_path / "small.onnx"
        )


def test_neighbours_kept_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_encoder, "NEIGHBOURS", 1)
    kept = item_encoder.neighbours_kept
    true = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    assert kept(true, true) == 1
    assert kept(true, true[[0, 3, 2, 1]]) == 0  # everybody is beside the wrong one
    assert kept(true, true[[0, 1, 3, 2]]) == 1  # two that change places are near each other still
    assert kept(true, true[[0, 2, 1, 3]]) == 0
    tied = np.array([[1, 0], [0.5, 0.1], [0.495, 0.1], [0, 1]], np.float32)
    other = tied[[0, 2, 1, 3]]
    assert kept(tied, other) == 1  # a hundredth further away is as near


def test_only_items_whose_text_has_changed_are_encoded_again(
    run: tuple[Path, Dataset],
    bundle: tuple[Path, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = str(run[1].path / "tokenizer.json")
    later = shop.planted(tmp_path / "later", tokenizer=tokenizer, retitled=5)
    config = TrainConfig(start_from=str(run[0]), recformer=ZeroShotConfig(), accelerator="cpu")
    train("recformer", SIZES, config, later.path, tmp_path / "run")
    encoder = ItemEncoder.load(item_graph(bundle[0]), ("sentence",), SIZES["dim"])
    expected = encoder.encode({"sentence": later.item_table["sentence"]})
    encoded: list[int] = []
    encode = ItemEncoder.encode

    def counting(self: ItemEncoder, attributes: Mapping[str, NDArray]) -> NDArray[np.float32]:
        encoded.append(len(attributes["sentence"]))
        return encode(self, attributes)

    monkeypatch.setattr(ItemEncoder, "encode", counting)
    monkeypatch.setattr("recsys.export.model.measure_item_parity", lambda *_: ())
    export(tmp_path / "run", later.path, SETTINGS, tmp_path / "bundle", reuse=bundle[0])
    assert encoded == [5]
    vectors = np.load(tmp_path / "bundle" / "model.vectors.npy")
    np.testing.assert_allclose(vectors[1:], expected[1:], atol=1e-3)  # half precision
    report = open_bundle(tmp_path / "bundle").manifest.report
    assert report["item_vectors_reused"] == later.schema.num_items - 5


def test_vectors_of_other_weights_are_not_reused(bundle: tuple[Path, Dataset], small: Path) -> None:
    path, data = bundle
    with pytest.raises(InputError, match="other weights, or in another precision"):
        known_vectors(path, item_graph(small), model_spec(small), data.item_table)
