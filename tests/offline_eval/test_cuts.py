import numpy as np
import pytest

from features.encode import Histories
from offline_eval.answers import METRICS, ListAnswer
from offline_eval.candidates import Candidates
from offline_eval.cuts import (
    by_history_length,
    by_popularity,
    by_support,
    by_training,
    by_view,
    by_warmth,
    cut_block,
    cut_values,
)
from offline_eval.hits import Truth
from offline_eval.task import Task


def task_with(lengths: list[int], truth: Truth, num_items: int = 9) -> Task:
    return Task(
        users=np.arange(len(lengths)),
        histories=Histories.of([[1] * length for length in lengths]),
        at=np.zeros(len(lengths), np.int64),
        truth=truth,
        num_items=num_items,
        exclude_seen=False,
        cold_dropped=0,
    )


def test_groups_by_history_length() -> None:
    lengths = [0, 1, 4, 5, 19, 20, 99, 100]
    truth = Truth.of(np.arange(8), np.ones(8, int), 8)
    cut = by_history_length(task_with(lengths, truth))
    assert cut.groups == ("none", "1 to 4", "5 to 19", "20 to 99", "100 or more")
    assert cut.codes.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]


def test_times_a_target_was_seen() -> None:
    interactions = np.array([0, 0, 1, 4, 5, 9, 10, 49, 50, 900])
    truth = Truth.of(np.zeros(9, int), np.arange(1, 10), 1)
    cut = by_support(task_with([1], truth), interactions)
    assert cut.groups == ("0", "1 to 4", "5 to 9", "10 to 49", "50 or more")
    assert cut.codes.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    views = by_view(task_with([1], truth), interactions)
    assert [group.split(":")[0] for group in views.groups] == ["cold", "sparse", "standard"]
    assert views.codes.tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2]


def test_thirds_of_the_training_events() -> None:
    interactions = np.array([0, 40, 20, 15, 5, 5, 5, 5, 5, 0])  # 100 events, item 9 has none
    truth = Truth.of(np.zeros(9, int), np.arange(1, 10), 1)
    cut = by_popularity(task_with([1], truth), interactions)
    head, middle, tail, cold = (
        "head: first third",
        "middle third",
        "tail: last third",
        "cold: none",
    )
    named = [cut.groups[code] for code in cut.codes]
    assert named == [head, middle, middle, tail, tail, tail, tail, tail, cold]


def test_new_users_and_cold_items() -> None:
    truth = Truth.of(np.array([0, 0, 1]), np.array([2, 5, 5]), 2)
    task = task_with([1, 1], truth)
    cut = by_warmth(task, np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
    assert cut.targets == {"cold: not in training": 2, "warm": 1}
    assert cut.codes.tolist() == [1, 0, 0]
    cut = by_training(task, np.array([True, False]))
    assert cut.targets == {"new: not in training": 1, "regular": 2}


def test_a_group_takes_its_targets_as_the_only_relevant_items() -> None:
    truth = Truth.of(np.array([0, 0, 1]), np.array([2, 5, 5]), 2)
    interactions = np.array([0, 0, 0, 0, 0, 9, 0, 0, 0, 0])
    cut = by_warmth(task_with([1, 1], truth), interactions)
    lists = np.array([[5, 2], [2, 5]])
    answer = ListAnswer.of(lists, truth, Candidates.everything(2, 9), (1, 2))
    values = cut_values(answer, cut, 2)
    np.testing.assert_allclose(values["warm", "ndcg@2"], [1, 1 / np.log2(3)])
    cold = values["cold: not in training", "ndcg@2"]
    np.testing.assert_allclose(cold, [1 / np.log2(3), np.nan])
    names = {name for _, name in values}
    assert names == {f"{metric}@2" for metric in METRICS} | {"auc"}


@pytest.mark.parametrize("split", [0, 1, 3])
def test_blocks_of_a_cut(split: int) -> None:
    truth = Truth.of(np.array([0, 0, 1, 2]), np.array([2, 5, 5, 1]), 3)
    cut = by_history_length(task_with([0, 7, 300], truth))
    parts = cut_block(cut, truth, 0, split), cut_block(cut, truth, split, 3)
    assert [*parts[0].codes, *parts[1].codes] == cut.codes.tolist() == [0, 0, 2, 4]
    assert len(parts[0].codes) == len(truth.block(0, split).items)
