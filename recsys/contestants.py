"""The systems an evaluation measures: each a function from cases to metric values and lists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from features.errors import InputError
from features.store import Dataset
from offline_eval.answers import Answer, ListAnswer, ScoreAnswer
from offline_eval.report import Kind
from offline_eval.task import Task
from recsys.baselines import BASELINES, Baseline, Interactions, history_matrix
from serving.pipeline import Pipeline
from serving.policy import Policy
from serving.recommender import Recommender

FULL_ORDER = 20_000
"""Up to this many items the bundle orders the whole catalogue, and its AUC is exact."""
LIST_DEPTH = 1_000
"""Items the bundle lists above that; the rest count as tied in AUC."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A system that can be measured."""

    name: str
    kind: Kind
    answer: Callable[[Task], Answer]


def depth(num_items: int, ks: Sequence[int]) -> int:
    """Items the bundle is asked to list."""
    return num_items if num_items <= FULL_ORDER else max(LIST_DEPTH, *ks)


def bundle_contestants(recommender: Recommender, ks: Sequence[int]) -> list[Contestant]:
    """What ships, its policy included, and, where it has a ranker, the same without the ranker."""
    ranking, policy = recommender.pipeline, recommender.policy
    found = [_bundle("bundle", "bundle", ranking, policy, ks)]
    if ranking.ranker is not None:
        retrieval = Pipeline(ranking.sources, None, ranking.num_items, ranking.threads)
        found.append(_bundle("bundle without ranker", "stage", retrieval, policy, ks))
    return found


def _bundle(
    name: str, kind: Kind, pipeline: Pipeline, policy: Policy, ks: Sequence[int]
) -> Contestant:
    def answer(task: Task) -> Answer:
        k = max(depth(task.num_items, ks), *ks)
        lists = pipeline.rank(task.histories, task.at, policy, k).items
        return ListAnswer.of(lists, task.truth, task.candidates(), ks)

    return Contestant(name, kind, answer)


def baseline_contestants(
    data: Dataset, names: Sequence[str], ks: Sequence[int], seed: int
) -> Iterator[Contestant]:
    """Each baseline, fitted on the training part when its turn comes."""
    training = data.training_histories()
    interactions = Interactions(
        training.items, training.timestamps, training.starts, training.ends, data.schema.num_items
    )
    for name in names:
        try:
            fitted = BASELINES[name].fit(interactions)
        except ValueError as error:
            raise InputError(f"baseline {name}: {error}") from error
        yield _baseline(name, fitted, ks, seed)


def _baseline(name: str, fitted: Baseline, ks: Sequence[int], seed: int) -> Contestant:
    def answer(task: Task) -> Answer:
        asked = task.histories
        matrix = history_matrix(asked.items, asked.starts, asked.ends, task.num_items)
        scores = fitted.scores(matrix)
        return ScoreAnswer.of(scores, task.truth, task.candidates(), ks, seed=seed)

    return Contestant(name, "baseline", answer)
