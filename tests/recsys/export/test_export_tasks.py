"""A ranker of several tasks in a bundle: folded, calibrated, combined by a formula."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from offline_eval.probabilities import log_loss
from recsys.cli import app
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.models.dtrn import DTRN
from recsys.repolicy import repolicy
from recsys.training.config import RankingConfig, TrainConfig
from recsys.training.examples import held_out_examples
from recsys.training.ranking import probabilities
from recsys.training.run import load_run, train
from recsys.training.task_config import TaskConfig
from serving.errors import BundleError, RequestError
from serving.manifest import NeuralRankerSpec
from serving.neural import NeuralRanker
from serving.options import Options
from serving.policy_spec import PolicySpec
from serving.recommender import Recommender

TASKS = (TaskConfig(name="click", events=("click",)), TaskConfig(name="buy", events=("buy",)))
TRAIN = TrainConfig(
    ranking=RankingConfig(tasks=TASKS, targets_per_user=3), max_epochs=1, batch_size=64
)
SIZES = {"hidden": [8], "tower": []}
HYPER = 37
"""A width that nothing else has."""
FORMULA = "click^0.5 * buy^2"


@pytest.fixture(scope="module")
def made(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its bundle."""
    root = tmp_path_factory.mktemp("tasks")
    options = {"dim": 4, "max_len": 12, "behaviours": ["click", "buy"], "sizes": SIZES}
    options["hyper_hidden"] = HYPER
    train("dtrn", options, TRAIN, inputs.dataset, root / "run")
    config = ExportConfig(
        ranker="neural",
        sources=("item_knn", "popularity"),
        candidates=30,
        policy=PolicySpec(formula=FORMULA),
    )
    export(None, inputs.dataset, config, root / "bundle", ranker_run=root / "run")
    return root / "run", root / "bundle"


def ranker_of(recommender: Recommender) -> NeuralRanker:
    found = recommender.pipeline.ranker
    assert isinstance(found, NeuralRanker)
    return found


def test_the_hypernetwork_is_not_in_the_graphs(made: tuple[Path, Path]) -> None:
    model = load_run(made[0])[0]
    assert isinstance(model, DTRN)
    hidden = set(model.interests.conditions.first.weight.shape)  # pyright: ignore
    assert HYPER in hidden
    for name in ("ranker.history.onnx", "ranker.rank.onnx"):
        graph = onnx.load(made[1] / name).graph
        shapes = [tuple(x.dims) for x in graph.initializer]
        assert not [shape for shape in shapes if HYPER in shape], name


def test_one_graph_gives_calibrated_probabilities_of_all_tasks(
    made: tuple[Path, Path], inputs: Any
) -> None:
    ranker = ranker_of(Recommender.load(made[1]))
    assert isinstance(ranker.spec, NeuralRankerSpec)
    assert ranker.spec.tasks == ("click", "buy")
    data = Dataset.open(inputs.dataset)
    examples = held_out_examples(data, "validation", TRAIN.ranking, TRAIN.seed)
    histories = examples.moments.histories(data)
    raw = probabilities(ranker.log_odds(histories, examples.candidates).astype(np.float64))
    calibrated = ranker.probabilities(histories, examples.candidates)
    assert calibrated.shape == examples.labels.shape
    for t, calibration in enumerate(ranker.spec.calibration):
        known = examples.known[..., t]
        assert calibration.persons == known.sum()
        labels = examples.labels[..., t][known] > 0.5
        before, after = (log_loss(labels, p[..., t][known]).mean() for p in (raw, calibrated))
        assert after < before
        assert calibrated[..., t][known].mean() == pytest.approx(labels.mean(), rel=0.02)


def test_the_formula_of_the_policy_decides_and_a_request_may_bring_another(
    made: tuple[Path, Path], inputs: Any
) -> None:
    data, recommender = Dataset.open(inputs.dataset), Recommender.load(made[1])
    histories = data.histories(data.cases("test")).take(slice(0, 4))
    at = np.full(4, data.schema.cutoff)
    candidates = recommender.candidates(histories, at=at)
    p = ranker_of(recommender).probabilities(histories, candidates.items)
    by_formula = {
        FORMULA: p[..., 0] ** 0.5 * p[..., 1] ** 2,
        "buy / click": p[..., 1] / p[..., 0],
    }
    orders = []
    for text, value in by_formula.items():
        policy = recommender.policy_of(Options(policy=PolicySpec(formula=text)))
        found = recommender.rank(histories, k=10, at=at, policy=policy)
        for row in range(4):
            real = candidates.items[row] > 0
            best = candidates.items[row][real][np.argsort(-value[row][real], kind="stable")[:10]]
            assert found.items[row].tolist() == best.tolist()
        orders.append(found.items.tolist())
    assert orders[0] != orders[1]
    plain = recommender.rank(histories, k=10, at=at)
    assert plain.items.tolist() == orders[0]  # the bundle's own


def test_a_formula_of_other_tasks_is_refused(made: tuple[Path, Path]) -> None:
    recommender = Recommender.load(made[1])
    with pytest.raises(RequestError, match=r"names \['like'\].*\['click', 'buy'\]"):
        recommender.policy_of(Options(policy=PolicySpec(formula="like * buy")))


def test_a_formula_without_tasks_is_not_exported(inputs: Any, tmp_path: Path) -> None:
    config = ExportConfig(sources=("popularity",), policy=PolicySpec(formula="click"))
    with pytest.raises(BundleError, match="has no tasks"):
        export(None, inputs.dataset, config, tmp_path / "bundle")


def test_a_history_may_lack_behaviours(made: tuple[Path, Path]) -> None:
    ranker = ranker_of(Recommender.load(made[1]))
    model = load_run(made[0])[0]
    assert isinstance(model, DTRN)
    click, buy = model.config.codes
    rows = {"none": [], "clicks": [click] * 3, "buys": [buy] * 2, "both": [click, buy, click]}
    histories = Histories.of(
        [[5, 6, 7][: len(r)] for r in rows.values()], None, list(rows.values())
    )
    candidates = np.tile(np.array([[1, 2, 9]]), (4, 1))
    together = ranker.log_odds(histories, candidates)
    apart = [ranker.log_odds(histories.take(slice(i, i + 1)), candidates[:1]) for i in range(4)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-5)
    assert np.isfinite(together).all()
    assert len(np.unique(together[:, 0, 0].round(6))) == 4


def test_another_formula_needs_no_export(made: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "again"
    told = CliRunner().invoke(
        app, ["repolicy", str(made[1]), "--out", str(out), "--formula", "buy / click"]
    )
    assert told.exit_code == 0, told.output
    before, after = Recommender.load(made[1]), Recommender.load(out)
    assert after.manifest.policy.formula == "buy / click"
    assert after.manifest.files.keys() == before.manifest.files.keys()
    for name, entry in before.manifest.files.items():
        assert after.manifest.files[name] == entry
    after.check_golden()
    assert after.bundle_sha256 != before.bundle_sha256
    wish = Options(policy=before.manifest.policy)
    raw = before.raw_item_ids.to_list()[1:4]
    asked = after.recommend(raw, k=5, options=wish)
    assert [x.item_id for x in asked.items] == [x.item_id for x in before.recommend(raw, k=5).items]


def test_a_policy_that_is_none_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no formula"):
        repolicy(made[1], tmp_path / "out", formula="click *")
    with pytest.raises(BundleError, match="like"):
        repolicy(made[1], tmp_path / "out", formula="like")
    assert not (tmp_path / "out").exists()
