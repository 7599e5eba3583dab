"""The second stage: LightGBM LambdaRank, trained on the validation cases, to ONNX.

1. Cases: the dataset's validation cases. The sources have learnt from the training part only, so
   they propose without having seen the labels, as they will in service.
2. Candidates: what the sources propose, at the moment of the case's first target. A case without
   a target among them teaches nothing and is dropped; no target is ever added by hand, as that
   would teach the ranker that candidates which nobody proposed are right.
3. Features: `features.asof`, the code that serving runs, in float32, as the graph will get them.
4. Boosting on four fifths of the cases; the last fifth of the users stops it and measures it.
   (So the reported gain is slightly flattered, by the choice of the number of trees.)
5. ONNX: converted, stripped, and compared with LightGBM on the held-out rows.

Shape suffixes: B cases, C candidates, F features, R rows (candidates of several cases).
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.asof import Facts, ItemTimeline, feature_names, ranking_features
from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from offline_eval.metrics import ndcg
from offline_eval.task import Task
from recsys.export.ranker_config import RankerConfig
from recsys.export.trees import graph_scores, to_onnx
from serving.candidates import Candidates
from serving.person_vectors import PersonVectors

log = logging.getLogger(__name__)

K = 10
"""Cut-off of the NDCG that is reported and that stops the training."""
BLOCK = 256
"""Cases whose candidates are held at once."""
MANY_ROWS = 1_000_000
"""Training rows from which on all processors are used."""
MIN_CASES = 10
"""Fewer cases with a target among the candidates, to train or to measure, are refused."""


class Proposer(Protocol):
    """The part of `serving.recommender.Recommender` that is needed here."""

    def candidates(self, histories: Histories, *, at: NDArray[np.int64]) -> Candidates:
        """What the ranker will choose from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerFit:
    """A trained ranker and what is known of it."""

    onnx: bytes
    features: tuple[str, ...]
    """Names of the columns of the input."""
    importance: Mapping[str, float]
    """Share of the total gain by feature, greatest first."""
    num_trees: int
    training_cases: int
    held_out_cases: int
    dropped_cases: int
    """Cases without a target among the candidates; those held out still count in the NDCGs."""
    retrieval_ndcg: float
    """NDCG@10 of the held-out cases in the order of retrieval."""
    ranked_ndcg: float
    """The same, in the order of the ranker."""
    parity: float
    """Greatest difference of the ONNX scores from LightGBM's over the held-out rows."""
    parity_rows: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of several cases, one case after the other, and how many each has."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    def lightgbm(self, names: tuple[str, ...], reference: lgb.Dataset | None) -> lgb.Dataset:
        """The form that LightGBM trains on."""
        return lgb.Dataset(
            self.features,
            self.labels.astype(np.float32),
            reference=reference,
            group=self.sizes,
            feature_name=list(names),
            free_raw_data=False,
        )


def fit_ranker(
    recommender: Proposer,
    dataset: Dataset,
    config: RankerConfig,
    persons: PersonVectors | None = None,
) -> RankerFit:
    """Train the second stage for the candidates of `recommender`, which has no ranker yet.

    persons: the person's vector is a feature too, after all others.
    The same inputs give the same bytes. Raises InputError when too few validation cases have a
    target among the candidates.
    """
    rng = np.random.default_rng(config.seed)
    task = Task.of(dataset, "validation", exclude_seen=False)
    cases = rng.permutation(len(task))[: config.max_cases]
    num_held_out = round(len(cases) * config.held_out)
    judge = Judge(recommender, dataset, task, config, persons)
    train, dropped = gather(judge.cases(cases[num_held_out:]), config.negatives, rng)
    held_out = list(judge.cases(cases[:num_held_out]))
    measured, missed = gather(iter(held_out), None, rng)
    _refuse_too_few(len(train.sizes), dropped, "train on")
    _refuse_too_few(len(measured.sizes), missed, "measure it on")
    booster = boost(train, measured, judge.names, config)
    graph = to_onnx(booster)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    gains = booster.feature_importance("gain")
    shares = gains / max(gains.sum(), 1e-12)
    fit = RankerFit(
        onnx=graph,
        features=judge.names,
        importance={judge.names[f]: float(shares[f]) for f in np.argsort(-shares, kind="stable")},
        num_trees=booster.num_trees(),
        training_cases=len(train.sizes),
        held_out_cases=num_held_out,
        dropped_cases=dropped + missed,
        retrieval_ndcg=_mean_ndcg(held_out, None),
        ranked_ndcg=_mean_ndcg(held_out, session),
        parity=_difference(booster, session, measured.features),
        parity_rows=len(measured.features),
    )
    log.info(
        "ranker: %d trees from %d cases (%d dropped: no target among the candidates); "
        "held-out NDCG@%d %.4f in retrieval order, %.4f ranked",
        *(fit.num_trees, fit.training_cases, fit.dropped_cases, K),
        *(fit.retrieval_ndcg, fit.ranked_ndcg),
    )
    return fit


@dataclass(frozen=True, slots=True)
class Case:
    """The candidates of one case, in retrieval order, without padding."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    num_relevant: int
    """Its targets, proposed or not."""


class Judge:
    """Makes the features and labels of cases."""

    def __init__(
        self,
        recommender: Proposer,
        dataset: Dataset,
        task: Task,
        config: RankerConfig = RankerConfig(),  # noqa: B008 - frozen
        persons: PersonVectors | None = None,
    ) -> None:
        self._recommender, self._dataset, self._task = recommender, dataset, task
        self._persons = persons
        self._timeline = ItemTimeline.open(dataset.path).delayed(config.label_delay_days)
        self._columns, self._facts = dataset.schema.item_columns, Facts.of(dataset.schema)
        width = dataset.schema.num_items + 1
        self._relevant = np.sort(task.truth.users * width + task.truth.items)
        none = recommender.candidates(task.histories.take(slice(0, 1)), at=task.at[:1])
        sources = tuple(none.source_scores)
        self._wanted = feature_names(self._columns, sources, config.features, self._facts)
        self.names = (*self._wanted, *(persons.names if persons else ()))

    def cases(self, rows: NDArray[np.integer]) -> Iterator[Case]:
        """The cases at `rows` of the task, in that order."""
        for start in range(0, len(rows), BLOCK):
            yield from self._block(rows[start : start + BLOCK])

    def _block(self, rows: NDArray[np.integer]) -> Iterator[Case]:
        task, histories, at = self._task, self._task.histories.take(rows), self._task.at[rows]
        candidates = self._recommender.candidates(histories, at=at)
        features_BCF = ranking_features(
            histories,
            at,
            candidates.items,
            candidates.source_scores,
            self._timeline,
            self._dataset.item_table,
            self._columns,
            wanted=self._wanted,
            facts=self._facts,
        )
        if self._persons is not None:
            features_BCF = self._persons.append(features_BCF, histories)
        keys_BC = rows[:, None] * (self._dataset.schema.num_items + 1) + candidates.items
        labels_BC = np.isin(keys_BC, self._relevant)
        for b, row in enumerate(rows):
            real_C = candidates.items[b] != 0
            num_relevant = int(task.truth.num_relevant[row])
            yield Case(features_BCF[b, real_C], labels_BC[b, real_C], num_relevant)


def gather(
    cases: Iterator[Case], negatives: int | None, rng: np.random.Generator
) -> tuple[Judged, int]:
    """The rows of all cases with a target among them, and how many cases have none.

    negatives: rows a case beside its targets, drawn at random; None keeps all.
    """
    features, labels, dropped = [], [], 0
    for case in cases:
        if not case.labels.any():
            dropped += 1
            continue
        kept = np.arange(len(case.labels))
        if negatives is not None:
            others = rng.permutation(np.flatnonzero(~case.labels))[:negatives]
            kept = np.sort(np.concatenate([np.flatnonzero(case.labels), others]))
        features.append(case.features[kept])
        labels.append(case.labels[kept])
    sizes = np.array([len(rows) for rows in labels], np.int64)
    if not labels:
        return Judged(np.zeros((0, 0), np.float32), np.zeros(0, np.bool_), sizes), dropped
    return Judged(np.concatenate(features), np.concatenate(labels), sizes), dropped


def _refuse_too_few(found: int, dropped: int, purpose: str) -> None:
    if found < MIN_CASES:
        raise InputError(
            f"a ranker cannot be fitted: of {found + dropped} validation cases to {purpose}, "
            f"{found} have a target among their candidates, at least {MIN_CASES} are needed; "
            f"raise the number of candidates, use more data, or set ranker to none"
        )


def boost(
    train: Judged, measured: Judged, names: tuple[str, ...], config: RankerConfig
) -> lgb.Booster:
    """LambdaRank, cut at the round of the best held-out NDCG@10."""
    data = train.lightgbm(names, None)
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [K],
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_leaf,
        "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        # below this a second thread gains little, and costs much where the machine is busy
        "num_threads": 1 if len(train.labels) < MANY_ROWS else 0,
        "verbosity": -1,
    }
    booster = lgb.train(
        parameters,
        data,
        config.max_trees,
        valid_sets=[measured.lightgbm(names, data)],
        callbacks=[lgb.early_stopping(config.patience, verbose=False)],
    )
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    return lgb.Booster(model_str=text)


def _mean_ndcg(cases: list[Case], session: ort.InferenceSession | None) -> float:
    hits_BK = np.zeros((len(cases), K), np.bool_)
    for b, case in enumerate(cases):
        labels = case.labels
        if session is not None:
            labels = labels[np.argsort(-graph_scores(session, case.features), kind="stable")]
        hits_BK[b, : min(K, len(labels))] = labels[:K]
    return float(np.nanmean(ndcg(hits_BK, np.array([case.num_relevant for case in cases]))))


def _difference(
    booster: lgb.Booster, session: ort.InferenceSession, features: NDArray[np.float32]
) -> float:
    expected = np.asarray(booster.predict(features))
    return float(np.abs(graph_scores(session, features) - expected).max())
