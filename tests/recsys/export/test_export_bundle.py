"""Exported bundles answer with the model's own numbers, and come out the same again."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from features.encode import encode_histories
from features.errors import InputError
from features.stage import partial_path
from features.store import Dataset
from recsys.baselines.interface import history_matrix
from recsys.baselines.item_knn import ItemKNN
from recsys.export.bundle import _interactions, export
from recsys.export.config import ExportConfig
from recsys.models.interface import HistoryBatch
from serving.bundle import SEAL, open_bundle
from serving.errors import BundleError
from serving.recommender import Recommender

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    export(inputs.run, inputs.dataset, ExportConfig(), out)
    return out


def test_the_order_is_torchs_exact_order(inputs: Any, bundle: Path) -> None:
    data = Dataset.open(inputs.dataset)
    cases = data.cases("test")
    histories = data.histories(cases)
    inputs_of = encode_histories(histories, ("items",), inputs.model.max_len)
    items_BL = torch.from_numpy(inputs_of["items"])
    vectors_VD = inputs.model.item.weight.half().float()  # as the bundle holds them
    with torch.inference_mode():
        scores_BV = inputs.model.encode_history(HistoryBatch(items_BL)) @ vectors_VD.T
    seen = history_matrix(data.items, cases.starts, cases.cuts, data.schema.num_items).toarray()
    scores = np.where(seen > 0, -np.inf, scores_BV.numpy())
    scores[:, 0] = -np.inf
    at = data.timestamps[cases.cuts]
    found = Recommender.load(bundle).rank(histories, k=data.schema.num_items, at=at)
    expected = np.take_along_axis(scores, found.items, axis=1)
    real = found.items > 0
    assert (real.sum(axis=1) == np.isfinite(scores).sum(axis=1)).all()
    np.testing.assert_allclose(found.scores[real], expected[real], atol=1e-5)
    steps = np.diff(np.where(real, expected, -1e9), axis=1)
    assert steps.max() < 1e-5  # descending in torch's own scores


def test_the_manifest_says_what_was_measured(inputs: Any, bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.dataset == Dataset.open(inputs.dataset).manifest.sha256
    assert [source.name for source in manifest.sources] == ["model", "item_knn", "popularity"]
    lengths = {parity.length for parity in manifest.parity}
    assert {0, 1, inputs.model.max_len} <= lengths
    assert max(parity.max_abs_difference for parity in manifest.parity) < 1e-5
    assert all(one.index == "exact" and one.recall > 0.99 for one in manifest.index_recall)
    assert len(manifest.golden) == 8
    assert manifest.golden[0].items == ()


def test_no_path_of_this_machine_is_in_the_graph(bundle: Path) -> None:
    graph = (bundle / "model.encoder.onnx").read_bytes()
    assert str(ROOT).encode() not in graph
    assert b"stack_trace" not in graph


def test_no_user_is_in_the_bundle(inputs: Any, bundle: Path) -> None:
    users = Dataset.open(inputs.dataset).vocabulary("user").to_pylist()
    rare = max((str(user) for user in users), key=len).encode()
    assert not any(rare in path.read_bytes() for path in bundle.iterdir())
    assert not (bundle / "vocabulary-user.arrow").exists()


def test_neighbours_answer_like_the_baseline(inputs: Any, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    export(None, inputs.dataset, ExportConfig(sources=("item_knn", "popularity")), out)
    data = Dataset.open(inputs.dataset)
    cases = data.cases("test")
    matrix = history_matrix(data.items, cases.starts, cases.cuts, data.schema.num_items)
    scores = ItemKNN.fit(_interactions(data)).scores(matrix)
    scores[matrix.toarray() > 0] = -np.inf
    recommender = Recommender.load(out)
    found = recommender.rank(data.histories(cases), k=10, at=data.timestamps[cases.cuts])
    by_votes = (found.sources == 0) & (found.items > 0)
    expected = np.take_along_axis(scores, found.items, axis=1)
    np.testing.assert_allclose(found.scores[by_votes], expected[by_votes], rtol=1e-5)
    tenth = -np.sort(-scores, axis=1)[:, 9]
    assert (found.scores[:, 9][by_votes[:, 9]] >= tenth[by_votes[:, 9]] - 1e-5).all()


def test_a_bundle_without_a_model_needs_no_torch(inputs: Any, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from recsys.export.bundle import export\n"
        "from recsys.export.config import ExportConfig\n"
        "export(None, Path(sys.argv[1]), ExportConfig(), Path(sys.argv[2]))\n"
        "assert not {'torch', 'lightgbm', 'onnx'} & sys.modules.keys()"
    )
    out = tmp_path / "bundle"
    command = [sys.executable, "-c", code, str(inputs.dataset), str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    manifest = open_bundle(out).manifest
    assert [source.name for source in manifest.sources] == ["item_knn", "popularity"]
    assert (manifest.run, manifest.parity) == ("", ())
    assert len(Recommender.load(out).recommend([]).items) == 10


def test_a_ranker_is_trained_and_served(inputs: Any, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    export(inputs.run, inputs.dataset, ExportConfig(ranker="lightgbm", candidates=50), out)
    recommender = Recommender.load(out)
    manifest = recommender.manifest
    assert manifest.ranker is not None
    assert manifest.report["ranker"]["training_cases"] > 0
    data = Dataset.open(inputs.dataset)
    cases = data.cases("test")
    histories, at = data.histories(cases).take(slice(0, 20)), data.timestamps[cases.cuts[:20]]
    together = recommender.rank(histories, k=10, at=at)
    for row in range(20):
        alone = recommender.rank(histories.take(slice(row, row + 1)), k=10, at=at[row : row + 1])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-4)
    plain = Recommender.load(bundle).rank(histories, k=10, at=at)
    assert (plain.items != together.items).any()


def start_export(inputs: Any, out: Path) -> subprocess.Popen:
    """Export in a process of its own; returns when the imports are done."""
    code = (
        "import sys; from pathlib import Path; import recsys.export.model\n"
        "from recsys.export.bundle import export\n"
        "from recsys.export.config import ExportConfig\n"
        "print('go', flush=True)\n"
        "export(*map(Path, sys.argv[1:3]), ExportConfig(), Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, str(inputs.run), str(inputs.dataset), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def kill(process: subprocess.Popen) -> None:
    process.kill()
    assert process.stdout is not None
    process.stdout.close()
    process.wait()


def test_a_killed_export_leaves_nothing_that_loads(
    inputs: Any, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    process = start_export(inputs, out)
    partial = partial_path(out)
    while not (partial / "model.vectors.npy").exists():
        time.sleep(0.01)
    kill(process)
    assert not out.exists()
    with pytest.raises(BundleError, match="missing"):
        Recommender.load(partial)
    export(inputs.run, inputs.dataset, ExportConfig(), out)
    assert (out / SEAL).read_text() == (bundle / SEAL).read_text()
    assert not partial.exists()


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_ten_kills_at_random_moments(inputs: Any, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    started = time.monotonic()
    with start_export(inputs, out) as undisturbed:
        assert undisturbed.wait() == 0
    duration = time.monotonic() - started
    for share in np.random.default_rng(0).random(10):
        shutil.rmtree(out, ignore_errors=True)
        process = start_export(inputs, out)
        time.sleep(duration * share)
        kill(process)
        if out.exists():
            assert (out / SEAL).read_text() == (bundle / SEAL).read_text()
    shutil.rmtree(out, ignore_errors=True)
    export(inputs.run, inputs.dataset, ExportConfig(), out)
    assert (out / SEAL).read_text() == (bundle / SEAL).read_text()


def test_a_run_on_another_dataset_is_refused(inputs: Any, bundle: Path, tmp_path: Path) -> None:
    manifest = inputs.run / "manifest.json"
    whole = manifest.read_text()
    try:
        manifest.write_text(whole.replace('"parent": "', '"parent": "f'))
        with pytest.raises(InputError, match="trained on another dataset"):
            export(inputs.run, inputs.dataset, ExportConfig(), tmp_path / "bundle")
    finally:
        manifest.write_text(whole)
    with pytest.raises(InputError, match="exists"):
        export(inputs.run, inputs.dataset, ExportConfig(), bundle)


def test_golden_requests_catch_another_answer(bundle: Path) -> None:
    recommender = Recommender.load(bundle)
    recommender.check_golden()
    golden = recommender.manifest.golden
    wrong = golden[1].model_copy(update={"scores": tuple(score + 1 for score in golden[1].scores)})
    recommender.manifest = recommender.manifest.model_copy(update={"golden": (wrong,)})
    with pytest.raises(BundleError, match="stored request 0 is answered"):
        recommender.check_golden()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sources": ["model"]}, "lacks popularity"),
        ({"sources": ["popularity", "popularity"]}, "each once"),
        ({"sources": []}, "at least one"),
        ({"candidates": 0}, "at least 1"),
        ({"ranker": "forest"}, "lightgbm"),
        ({"candidate": 5}, "candidate"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(ExportConfig).validate_python(fields)
