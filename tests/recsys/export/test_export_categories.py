"""Category logits in a bundle: as torch gives them, as a filter, and as a cut of the candidates."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from safetensors.torch import save_model
from typer.testing import CliRunner

from features.errors import InputError
from features.layout import CATALOGUE
from features.stage import write_stage
from features.store import Dataset
from recsys.cli import app
from recsys.export.bundle import export
from recsys.export.config import CategoryCut, ExportConfig
from recsys.export.item_encoder import export_item_encoder, measure_item_parity
from recsys.export.onnx import export_encoder, measure_parity
from recsys.models.interface import HistoryBatch
from recsys.models.m2trec import M2TRec, M2TRecConfig
from recsys.training.kinds import dataset_facts, model_config
from serving.bundle import open_bundle
from serving.errors import RequestError
from serving.manifest import ModelSpec
from serving.model_source import ModelSource
from serving.options import Options
from serving.policy_spec import PolicySpec, ValueRule
from serving.recommender import Recommender

SHARE = 0.3


class Inputs(Protocol):
    """What the fixture of this directory makes."""

    dataset: Path


@pytest.fixture(scope="module")
def run(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained M2TRec of the shop, and the same without heads beside it."""
    root = tmp_path_factory.mktemp("categories")
    data = Dataset.open(inputs.dataset)
    for name, options in (("run", {}), ("single", {"heads": ()})):
        sizes = {"dim": 16, "max_len": 20, **options}
        config = model_config("m2trec", sizes, dataset_facts(data))
        assert isinstance(config, M2TRecConfig)
        torch.manual_seed(0)
        model = M2TRec(config).eval()
        for part in (model.query, *model.heads):
            for weight in part.parameters():
                torch.nn.init.normal_(weight, std=0.3)
        parent = data.manifest.sha256
        with write_stage(root / name, kind="run", config={}, parent=parent) as directory:
            save_model(model, str(directory / "model.safetensors"))
            content = {"model": {"name": "m2trec", "config": asdict(config)}}
            (directory / "config.json").write_text(json.dumps(content))
    return root / "run"


@pytest.fixture(scope="module")
def column(run: Path) -> str:
    """The category column with most values."""
    config = json.loads((run / "config.json").read_text())["model"]["config"]
    found = [c for c in config["columns"] if c["kind"] == "category"]
    return max(found, key=lambda c: c["size"])["name"]


@pytest.fixture(scope="module")
def cut(run: Path, inputs: Inputs, column: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cut") / "bundle"
    wanted = CategoryCut(column=column, share=SHARE)
    export(run, inputs.dataset, ExportConfig(category_cut=wanted, candidates=60), out)
    return out


def source_of(recommender: Recommender) -> ModelSource:
    source = recommender.pipeline.sources[0]
    assert isinstance(source, ModelSource)
    return source


def test_the_graph_gives_the_logits_of_torch_at_every_size(run: Path, inputs: Inputs) -> None:
    from recsys.training.run import load_retriever

    data = Dataset.open(inputs.dataset)
    model, _ = load_retriever(run)
    assert isinstance(model, M2TRec)
    num_items = data.schema.num_items
    vectors = np.random.default_rng(0).normal(size=(num_items + 1, 16)).astype(np.float32)
    path = run.parent / "encoder.onnx"
    export_encoder(model, {**data.item_table, "vector": vectors}, num_items, path)
    session = onnxruntime.InferenceSession(str(path))
    names = [node.name for node in session.get_outputs()]
    assert names == ["history", *(f"category.{name}" for name in model.head_names)]
    draw = np.random.default_rng(1)
    for batch, length in ((1, 1), (3, 7), (64, 20)):
        lengths = np.concatenate([[length], draw.integers(1, length + 1, batch - 1)])
        items = draw.integers(1, num_items + 1, (batch, length))
        items = items * (np.arange(length) < lengths[:, None])
        feed = {"items": items, "item.vector": vectors[items]}
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        with torch.inference_mode():
            outputs = model.encode_with_categories(HistoryBatch.of(tensors))
        for found, expected in zip(session.run(None, feed), outputs, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("pool", "attend"), [("cls", True), ("last", False)])
def test_every_way_of_pooling_is_exported_as_it_is_in_torch(
    pool: str, attend: bool, inputs: Inputs, tmp_path: Path
) -> None:
    data = Dataset.open(inputs.dataset)
    sizes = {"dim": 16, "max_len": 20, "pool": pool, "attend_tokens": attend}
    config = model_config("m2trec", sizes, dataset_facts(data))
    assert any(found.kind == "text" for found in config.read())
    torch.manual_seed(0)
    model, num_items = M2TRec(config).eval(), data.schema.num_items
    vectors = np.random.default_rng(0).normal(size=(num_items + 1, 16)).astype(np.float32)
    table = {**data.item_table, "vector": vectors}
    export_encoder(model, table, num_items, tmp_path / "history.onnx")
    parity = measure_parity(model, table, num_items, tmp_path / "history.onnx")
    assert max(one.max_abs_difference for one in parity) <= 1e-5
    export_item_encoder(model, data.item_table, tmp_path / "items.onnx")
    items = measure_item_parity(model, data.item_table, tmp_path / "items.onnx")
    assert max(one.max_abs_difference for one in items) <= 1e-5


def test_the_manifest_names_what_is_predicted_and_the_cut(cut: Path, column: str) -> None:
    spec = open_bundle(cut).manifest.sources[0]
    assert isinstance(spec, ModelSpec)
    assert column in spec.predicted
    assert spec.cut is not None
    assert (spec.cut.column, spec.cut.share) == (column, SHARE)


def test_the_cut_proposes_the_best_of_the_likeliest_categories(cut: Path, column: str) -> None:
    recommender = Recommender.load(cut)
    source, table = source_of(recommender), recommender.item_table[column]
    histories = [pl.read_parquet(cut / CATALOGUE)["item_id"].gather([i, i + 5]) for i in range(8)]
    for history in histories:
        request = recommender.reader.read(history.to_list(), None)
        logits = source.category_logits(request.histories, column)[0]
        candidates, least = set(np.flatnonzero(table[1:] < 2) + 1), SHARE * recommender.num_items
        held = 0
        for value in np.argsort(-logits, kind="stable"):
            of_value = np.flatnonzero(table == value + 2)
            candidates |= set(of_value.tolist())
            held += len(of_value)
            if held >= round(least):
                break
        found = recommender.candidates(request.histories, at=request.at)
        proposed = found.items[0][~np.isnan(found.source_scores["model"][0])]
        assert set(proposed.tolist()) <= candidates
        scores = source.vectors_VD.astype(np.float32) @ source.encode(request.histories)[0]
        seen = set(request.histories.items.tolist())
        best = max(candidates - seen, key=lambda item: scores[item])
        assert proposed[0] == best
        assert len(candidates) < recommender.num_items


def test_predicted_categories_filter_a_request(cut: Path, column: str) -> None:
    recommender = Recommender.load(cut)
    history = pl.read_parquet(cut / CATALOGUE)["item_id"].head(2).to_list()
    ranked = recommender.next_categories(history, column, k=1_000)
    assert sum(share for _, share in ranked) == pytest.approx(1)
    assert [share for _, share in ranked] == sorted((s for _, s in ranked), reverse=True)
    value = ranked[0][0]
    only = PolicySpec(rules=(ValueRule(column=column, values=(value,), action="only"),))
    answer = recommender.recommend(history, k=5, options=Options(policy=only))
    catalogue = pl.read_parquet(cut / CATALOGUE)
    of_value = catalogue.filter(pl.col(column) == value)["item_id"].to_list()
    assert answer.items
    assert {item.item_id for item in answer.items} <= set(of_value)
    with pytest.raises(RequestError, match="predicts"):
        recommender.next_categories(history, "no such column")
    with pytest.raises(RequestError, match="no known item"):
        recommender.next_categories([], column)


def test_the_command_tells_what_kind_comes_next(cut: Path, column: str) -> None:
    history = pl.read_parquet(cut / CATALOGUE)["item_id"].head(2).to_list()
    found = CliRunner().invoke(app, ["recommend", str(cut), *history])
    assert found.exit_code == 0
    value = Recommender.load(cut).next_categories(history, column)[0][0]
    assert f"next {column}: {value} " in found.output
    assert "next" not in CliRunner().invoke(app, ["recommend", str(cut)]).output


def test_a_new_item_is_found_through_its_category(cut: Path, column: str) -> None:
    before = Recommender.load(cut)
    catalogue = pl.read_parquet(cut / CATALOGUE)
    history = catalogue["item_id"].head(2).to_list()
    best = before.recommend(history, k=1).items[0].item_id
    twin = catalogue.filter(pl.col("item_id") == best).with_columns(item_id=pl.lit("TWIN"))
    answer = before.add_items(twin).recommend(history, k=2)
    assert {item.item_id for item in answer.items} == {best, "TWIN"}


def test_a_cut_by_what_is_not_predicted_is_refused(
    run: Path, inputs: Inputs, column: str, tmp_path: Path
) -> None:
    config = ExportConfig(category_cut=CategoryCut(column=column))
    with pytest.raises(InputError, match="no categories"):
        export(run.with_name("single"), inputs.dataset, config, tmp_path / "bundle")
    with pytest.raises(ValueError, match="above 0"):
        CategoryCut(column=column, share=0)
