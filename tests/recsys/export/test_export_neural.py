"""Neural rankers in a bundle: the files give torch's numbers, alone and under the trees."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from features.errors import InputError
from features.stage import write_stage
from features.store import Dataset
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.neural import export_neural_ranker, to_int8
from recsys.export.neural_parity import check_parity, sample, torch_scores
from recsys.models import MODELS
from recsys.models.dare import DARE, DAREConfig
from recsys.models.interface import Ranker
from recsys.training.kinds import dataset_facts, model_config
from serving.bundle import Bundle
from serving.errors import BundleError
from serving.manifest import Manifest, NeuralRankerSpec, TreeRankerSpec
from serving.neural import NeuralRanker
from serving.recommender import Recommender

RANKERS = [name for name, entry in MODELS.items() if entry.kind == "ranker"]
ALIKE = ("twin", "din", "eta", "multi_task")
"""Graphs of the same shape as DARE's; checked by hand, for exporting takes seconds."""
EXPORTED = [pytest.param(n, marks=pytest.mark.slow) if n in ALIKE else n for n in RANKERS]
SMALL = {"max_len": 20, "dim": 4, "top_k": 4, "hidden": (8, 4), "init": "torch", "dropout": 0.0}
TWO = {"behaviours": ["click", "buy"]}
"""Enough for a graph; each more is a second of exporting."""
TASKS = ({"name": "click", "events": ["click"]}, {"name": "buy", "events": ["buy"]})


def ranker(name: str, data: Dataset, **options: object) -> Ranker:
    known = {field.name for field in fields(MODELS[name].config)}
    given = SMALL | TWO | {"tasks": TASKS} | options
    wanted = {key: value for key, value in given.items() if key in known}
    torch.manual_seed(0)
    model = MODELS[name].model(model_config(name, wanted, dataset_facts(data)))
    assert isinstance(model, Ranker)
    return model.eval()


def manifest_of(data: Dataset) -> Manifest:
    return Manifest(dataset="", run="", num_items=data.schema.num_items, sources=(), config={})


@pytest.mark.parametrize("name", [*EXPORTED, "dare, long"])
def test_the_files_give_torchs_numbers_at_every_length(
    name: str, inputs: Any, tmp_path: Path
) -> None:
    data = Dataset.open(inputs.dataset)
    name, _, long = name.partition(",")
    model = ranker(name, data, **({"max_len": 1000} if long else {}))
    spec = export_neural_ranker(model, name, data, tmp_path)
    found = check_parity(model, data, tmp_path, manifest_of(data), spec)
    assert {parity.length for parity in found} >= {0, 1, model.max_len}
    assert max(parity.max_abs_difference for parity in found) < 1e-5
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".onnx", ".npy")]


def test_small_tables_serve_nearly_the_same(inputs: Any, tmp_path: Path) -> None:
    data = Dataset.open(inputs.dataset)
    model = ranker("dare", data)
    histories, candidates = sample(data.schema, 3, 20, 50)
    found, size = {}, {}
    for precision in ("float32", "float16", "int8"):
        out = tmp_path / precision
        out.mkdir()
        spec = export_neural_ranker(model, "dare", data, out, precision=precision)
        check_parity(model, data, out, manifest_of(data), spec)
        served = NeuralRanker.load(Bundle(out, manifest_of(data), ""), spec, data.item_table)
        found[precision] = served.log_odds(histories, candidates)
        size[precision] = (out / "ranker.query.npy").stat().st_size
    spread = found["float32"].std()
    assert np.abs(found["float16"] - found["float32"]).max() < 0.01 * spread
    assert 0 < np.abs(found["int8"] - found["float32"]).max() < 0.2 * spread
    assert size["float32"] > 1.8 * size["float16"] > 3 * size["int8"]


def test_int8_keeps_each_row_within_half_a_step() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    values[3] = 0
    rounded, scale = to_int8(values)
    assert np.abs(rounded * scale[:, None] - values).max() <= scale.max() / 2 + 1e-6
    assert np.abs(rounded).max() == 127


def test_a_graph_that_is_not_the_models_is_not_published(inputs: Any, tmp_path: Path) -> None:
    data = Dataset.open(inputs.dataset)
    model = ranker("dare", data)
    spec = export_neural_ranker(model, "dare", data, tmp_path)
    with torch.no_grad():
        next(iter(model.head.parameters())).add_(1.0)  # pyright: ignore
    with pytest.raises(BundleError, match="differs from the model"):
        check_parity(model, data, tmp_path, manifest_of(data), spec)


def test_a_batch_answers_as_its_rows_and_several_tasks_combine(
    inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.open(inputs.dataset)
    model = ranker("dare", data)
    spec = export_neural_ranker(model, "dare", data, tmp_path)
    served = NeuralRanker.load(Bundle(tmp_path, manifest_of(data), ""), spec, data.item_table)
    histories, candidates = sample(data.schema, 5, 20, 6)
    whole = served.log_odds(histories, candidates)
    monkeypatch.setattr("serving.neural.CELLS", 1)
    np.testing.assert_allclose(served.log_odds(histories, candidates), whole, atol=1e-6)
    two = replace_spec(served, tasks=("click", "buy"), weights=(1.0, 2.0))
    log_odds = np.array([[[0.3, -1.0], [4.0, 0.0]]], np.float32)
    p = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    expected = np.log(p[..., 0] * p[..., 1] ** 2)
    np.testing.assert_allclose(two.combined(log_odds), expected, rtol=1e-5)


def replace_spec(served: NeuralRanker, **update: object) -> NeuralRanker:
    spec = served.spec.model_copy(update=update)
    return NeuralRanker(spec, served.history, served.stages, served.items, {})


def write_ranker_run(out: Path, data: Dataset) -> DARE:
    columns = dataset_facts(data)["columns"]
    sizes = {key: SMALL[key] for key in ("max_len", "dim", "top_k", "hidden", "init")}
    config = DAREConfig(num_items=data.schema.num_items, columns=columns, **sizes)
    torch.manual_seed(0)
    model = DARE(config).eval()
    with write_stage(out, kind="run", config={}, parent=data.manifest.sha256) as directory:
        save_model(model, str(directory / "model.safetensors"))
        content = {"model": {"name": "dare", "config": asdict(config)}}
        (directory / "config.json").write_text(json.dumps(content))
    return model


@pytest.fixture(scope="module")
def bundles(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, DARE]:
    """A bundle with a neural ranker, and one with trees above it."""
    root = tmp_path_factory.mktemp("neural")
    model = write_ranker_run(root / "ranker-run", Dataset.open(inputs.dataset))
    for kind in ("neural", "stacked"):
        config = ExportConfig(ranker=kind, sources=("item_knn", "popularity"), candidates=30)
        export(None, inputs.dataset, config, root / kind, ranker_run=root / "ranker-run")
    return root / "neural", root / "stacked", model


def test_the_bundle_ranks_its_candidates_by_the_model(
    bundles: tuple[Path, Path, DARE], inputs: Any
) -> None:
    data = Dataset.open(inputs.dataset)
    recommender = Recommender.load(bundles[0])
    spec = recommender.manifest.ranker
    assert isinstance(spec, NeuralRankerSpec)
    assert recommender.manifest.ranker_parity
    histories = data.histories(data.cases("test")).take(slice(0, 5))
    at = np.full(5, data.schema.cutoff)
    candidates = recommender.candidates(histories, at=at)
    served = recommender.pipeline.ranker
    assert isinstance(served, NeuralRanker)
    expected = torch_scores(bundles[2], data, histories, candidates.items, served.items)[..., 0]
    found = recommender.rank(histories, k=10, at=at)
    for row in range(5):
        real = candidates.items[row] > 0
        best = candidates.items[row][real][np.argsort(-expected[row][real], kind="stable")[:10]]
        assert found.items[row].tolist() == best.tolist()


def test_trees_read_the_models_score(bundles: tuple[Path, Path, DARE]) -> None:
    recommender = Recommender.load(bundles[1])
    spec = recommender.manifest.ranker
    assert isinstance(spec, TreeRankerSpec)
    assert {"neural_score", "neural_rank"} <= set(spec.features)
    answer = recommender.recommend([recommender._catalogue.raw_ids[3]], k=5)
    assert len(answer.items) == 5


def test_a_bundle_with_a_tensor_of_another_type_is_refused(
    bundles: tuple[Path, Path, DARE], inputs: Any
) -> None:
    spec = Recommender.load(bundles[0]).manifest.ranker
    assert isinstance(spec, NeuralRankerSpec)
    wrong = spec.items[0].model_copy(update={"dtype": "float16"})
    data = Dataset.open(inputs.dataset)
    with pytest.raises(BundleError, match="expected float16"):
        NeuralRanker.load(
            Bundle(bundles[0], manifest_of(data), ""),
            spec.model_copy(update={"items": (wrong, *spec.items[1:])}),
            data.item_table,
        )


@pytest.mark.parametrize("kind", ["none", "neural"])
def test_a_run_of_a_ranker_is_given_exactly_where_it_is_used(
    kind: str, inputs: Any, tmp_path: Path
) -> None:
    config = ExportConfig(ranker=kind, sources=("popularity",))  # pyright: ignore
    run = tmp_path / "run" if kind == "none" else None
    with pytest.raises(InputError, match="ranker"):
        export(None, inputs.dataset, config, tmp_path / "bundle", ranker_run=run)


def test_a_retriever_is_no_second_stage(inputs: Any, tmp_path: Path) -> None:
    config = ExportConfig(ranker="neural", sources=("popularity",))
    with pytest.raises(InputError, match="needs a ranker"):
        export(None, inputs.dataset, config, tmp_path / "bundle", ranker_run=inputs.run)
