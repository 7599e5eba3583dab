"""The second stage: learns what can be learned, nothing from noise, and is the same as ONNX."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from numpy.typing import NDArray

from data.build import build_events
from data.config import LogFiles, Synthetic
from features.asof import feature_names
from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from offline_eval.task import Task
from recsys.export import ranker
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.ranker import Judge, K, RankerFit, fit_ranker
from recsys.export.ranker_config import RankerConfig
from recsys.export.trees import INPUT, graph_scores, to_onnx, with_float32_thresholds
from serving.candidates import Candidates
from serving.recommender import Recommender

QUICK = RankerConfig(max_trees=40, patience=10)
NOISE_ITEMS, NOISE_USERS, NOISE_EVENTS = 40, 2_000, 6
DAY = 86_400


def prepare(root: Path, source: LogFiles | Synthetic) -> tuple[Dataset, Recommender]:
    """A dataset, and a recommender without ranker: neighbours and popularity."""
    build_events(source, root / "events")
    build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), root / "dataset")
    config = ExportConfig(sources=("item_knn", "popularity"), candidates=60)
    export(None, root / "dataset", config, root / "bundle")
    return Dataset.open(root / "dataset"), Recommender.load(root / "bundle")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Recommender]:
    source = Synthetic(num_users=700, num_items=200, clicks_per_user=20)
    return prepare(tmp_path_factory.mktemp("shop"), source)


@pytest.fixture(scope="module")
def fit(shop: tuple[Dataset, Recommender]) -> RankerFit:
    dataset, recommender = shop
    return fit_ranker(recommender, dataset, QUICK)


def test_a_ranker_beats_the_order_of_retrieval(fit: RankerFit) -> None:
    assert fit.ranked_ndcg > 1.1 * fit.retrieval_ndcg


def test_the_features_are_those_that_serving_makes(
    fit: RankerFit, shop: tuple[Dataset, Recommender]
) -> None:
    dataset, recommender = shop
    assert fit.features == feature_names(dataset.schema.item_columns, recommender.source_names)
    assert sum(fit.importance.values()) == pytest.approx(1)
    assert set(fit.importance) == set(fit.features)


def test_the_same_inputs_give_the_same_bytes_whatever_the_threads(
    fit: RankerFit, shop: tuple[Dataset, Recommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, recommender = shop
    assert fit_ranker(recommender, dataset, QUICK) == fit
    monkeypatch.setattr(ranker, "MANY_ROWS", 0)
    assert fit_ranker(recommender, dataset, QUICK).onnx == fit.onnx
    assert fit_ranker(recommender, dataset, replace(QUICK, seed=1)).onnx != fit.onnx


class FirstFew:
    """Another recommender's candidates, cut: some targets are no longer among them."""

    def __init__(self, recommender: Recommender, width: int) -> None:
        self.recommender, self.width = recommender, width

    def candidates(self, histories: Histories, *, at: NDArray[np.int64]) -> Candidates:
        found = self.recommender.candidates(histories, at=at)
        columns = slice(0, self.width)
        return Candidates(
            found.items[:, columns],
            found.sources[:, columns],
            found.scores[:, columns],
            {name: scores[:, columns] for name, scores in found.source_scores.items()},
        )


def test_a_case_whose_target_nobody_proposed_is_counted_and_never_helped(
    shop: tuple[Dataset, Recommender],
) -> None:
    dataset, recommender = shop
    few = FirstFew(recommender, 15)
    task = Task.of(dataset, "validation", exclude_seen=True)
    proposed = few.candidates(task.histories, at=task.at).items
    missed = [
        set(proposed[row].tolist()).isdisjoint(
            task.truth.items[task.truth.offsets[row] : task.truth.offsets[row + 1]].tolist()
        )
        for row in range(len(task))
    ]
    assert 0 < sum(missed) < len(task)
    fit = fit_ranker(few, dataset, QUICK)
    assert fit.dropped_cases == sum(missed)
    assert fit.training_cases + fit.held_out_cases <= len(task)
    for row, case in enumerate(Judge(few, dataset, task).cases(np.arange(50))):
        assert len(case.labels) == np.count_nonzero(proposed[row])
        assert case.labels.any() != missed[row]
        assert case.num_relevant == task.truth.num_relevant[row]


def test_too_few_cases_are_refused(shop: tuple[Dataset, Recommender]) -> None:
    dataset, recommender = shop
    with pytest.raises(InputError, match=r"of \d+ validation cases .* at least 10 are needed"):
        fit_ranker(recommender, dataset, replace(QUICK, max_cases=20))


def test_nothing_can_be_learned_from_noise(tmp_path: Path) -> None:
    """Users choose among all items with equal chances at random moments. Then the target of a case
    is equally likely to be any item that is not in its history, and only a ranker whose features
    know the target could order the candidates better than chance.
    """
    rng = np.random.default_rng(0)
    items = np.array([rng.permutation(NOISE_ITEMS)[:NOISE_EVENTS] for _ in range(NOISE_USERS)])
    times = np.sort(rng.integers(0, 1_500 * DAY, items.shape), axis=1)
    users = np.repeat(np.arange(NOISE_USERS), NOISE_EVENTS)
    log = {"user_id": users, "item_id": items.ravel(), "timestamp": times.ravel()}
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")
    source = LogFiles(source="log", paths=(str(tmp_path / "log.parquet"),))
    dataset, recommender = prepare(tmp_path, source)
    fit = fit_ranker(recommender, dataset, replace(QUICK, held_out=0.5))
    assert fit.dropped_cases == 0
    num_candidates = NOISE_ITEMS - (NOISE_EVENTS - 2)
    gains = np.zeros(num_candidates)  # of each rank that chance may give the target
    gains[:K] = 1 / np.log2(np.arange(2, K + 2))
    standard_error = gains.std() / np.sqrt(fit.held_out_cases)
    assert abs(fit.ranked_ndcg - gains.mean()) < 4 * standard_error
    assert abs(fit.retrieval_ndcg - gains.mean()) < 4 * standard_error


def grown(num_trees: int) -> tuple[lgb.Booster, NDArray[np.float32]]:
    """A forest over columns of neighbouring float32 values, of small integers, and with nan."""
    rng = np.random.default_rng(num_trees)
    near = np.float32(1) + np.arange(40) * np.spacing(np.float32(1))
    features = np.stack(
        [
            rng.choice(near, 2_000),
            rng.integers(-3, 4, 2_000).astype(np.float32),
            np.where(rng.random(2_000) < 0.3, np.nan, rng.random(2_000)),
        ],
        axis=1,
        dtype=np.float32,
        casting="same_kind",
    )
    wanted = (features[:, 0] - 1) / np.ptp(near) + np.sin(features[:, 1]) + np.isnan(features[:, 2])
    parameters = {"objective": "regression", "num_leaves": 31, "verbosity": -1, "num_threads": 1}
    booster = lgb.train(parameters, lgb.Dataset(features, wanted), num_trees)
    return booster, features


@pytest.mark.parametrize("num_trees", [1, 49, 50, 51, 100, 120])
def test_the_graph_scores_like_lightgbm_with_nan_in_any_column(num_trees: int) -> None:
    booster, features = grown(num_trees)
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [
            features,
            np.where(rng.random(features.shape) < 0.5, np.nan, features),
            np.full((1, 3), np.nan),
            np.zeros((1, 3)),
            np.full((1, 3), np.inf),
            np.full((1, 3), -np.inf),
        ]
    ).astype(np.float32)
    actual = graph_scores(ort.InferenceSession(to_onnx(booster)), rows)
    np.testing.assert_allclose(actual, np.asarray(booster.predict(rows)), atol=2e-6)


def test_rounding_the_thresholds_changes_no_decision_of_lightgbm() -> None:
    booster, features = grown(30)
    rounded = lgb.Booster(model_str=with_float32_thresholds(booster.model_to_string()))
    np.testing.assert_array_equal(rounded.predict(features), booster.predict(features))
    nodes = [tree["tree_structure"] for tree in rounded.dump_model()["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "threshold" in node:
            assert float(np.float32(node["threshold"])) == node["threshold"]
            nodes += [node["left_child"], node["right_child"]]


def test_the_graph_says_what_it_takes_and_nothing_of_where_it_was_made(fit: RankerFit) -> None:
    model = onnx.load_from_string(fit.onnx)
    onnx.checker.check_model(model)
    assert not model.metadata_props
    assert not model.doc_string + model.graph.doc_string
    assert model.graph.name == "ranker"
    (only,) = ort.InferenceSession(fit.onnx).get_inputs()
    assert (only.name, only.type, only.shape[1]) == (INPUT, "tensor(float)", len(fit.features))
    assert fit.parity < 1e-5
    assert fit.parity_rows > 1_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: RankerConfig(held_out=1.0),
        lambda: RankerConfig(num_leaves=1),
        lambda: RankerConfig(max_trees=0),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make: Callable[[], RankerConfig]) -> None:
    with pytest.raises(ValueError, match="must"):
        make()
