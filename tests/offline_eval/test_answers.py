import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from features.errors import InputError
from offline_eval.answers import METRICS, ListAnswer, ScoreAnswer
from offline_eval.best import Best, mask_scores
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth
from offline_eval.metrics import ndcg

KS = (1, 3)
LISTS = np.array([[3, 1, 4, 2, 0], [5, 4, 3, 1, 0]])  # all candidates of five items
TRUTH = Truth.of(np.array([0, 1, 1]), np.array([1, 3, 2]), 2)
CANDIDATES = Candidates.without(np.array([0, 1]), np.array([5, 2]), num_users=2, num_items=5)


def test_every_metric_at_every_cut_off() -> None:
    values = ListAnswer.of(LISTS, TRUTH, CANDIDATES, KS).values()
    assert set(values) == {f"{name}@{k}" for name in METRICS for k in KS} | {"auc"}
    assert values["hit_rate@1"].tolist() == [0, 0]
    assert values["hit_rate@3"].tolist() == [1, 1]
    assert values["mrr@3"].tolist() == [1 / 2, 1 / 3]
    hits = np.array([[False, True, False], [False, False, True]])
    np.testing.assert_array_equal(values["ndcg@3"], ndcg(hits, np.array([1, 2])))


def test_a_target_that_cannot_be_listed_is_a_miss_and_no_part_of_auc() -> None:
    values = ListAnswer.of(LISTS, TRUTH, CANDIDATES, KS).values()
    assert values["recall@3"].tolist() == [1, 1 / 2]  # user 1: item 2 is excluded
    order = [5, 4, 3, 1]
    expected = roc_auc_score([item == 3 for item in order], [4, 3, 2, 1])
    np.testing.assert_allclose(values["auc"], [2 / 3, expected])


def test_blocks_of_users_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(30)[:10] + 1 for _ in range(20)])
    truth = Truth.of(rng.integers(0, 20, 50), rng.integers(1, 31, 50), 20)
    whole = ListAnswer.of(lists, truth, Candidates.everything(20, 30), KS).values()
    blocks = [(0, 7), (7, 8), (8, 20)]
    parts = [
        ListAnswer.of(lists[a:b], truth.block(a, b), Candidates.everything(b - a, 30), KS).values()
        for a, b in blocks
    ]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))


def test_an_excluded_item_in_a_list_is_refused() -> None:
    lists = np.array([[3, 5, 4, 2, 0], [5, 4, 3, 1, 0]])
    with pytest.raises(InputError, match=r"row 0 holds item 5, which is excluded.*\(1 such"):
        ListAnswer.of(lists, TRUTH, CANDIDATES, KS)


def test_lists_shorter_than_the_cut_offs_are_refused() -> None:
    with pytest.raises(InputError, match="lists of 5 ranks cannot be cut at 10"):
        ListAnswer.of(LISTS, TRUTH, CANDIDATES, (10,))


def test_scores_without_ties_give_what_their_lists_give() -> None:
    rng = np.random.default_rng(1)
    scores = np.array([rng.permutation(31) for _ in range(20)]).astype(np.float32)
    truth = Truth.of(rng.integers(0, 20, 50), rng.integers(1, 31, 50), 20)
    users, items = rng.integers(0, 20, 60), rng.integers(1, 31, 60)
    candidates = Candidates.without(users, items, num_users=20, num_items=30)
    whole_lists = Best.of(mask_scores(scores.copy(), candidates), 30).lists(30)
    by_scores = ScoreAnswer.of(scores, truth, candidates, KS)
    by_lists = ListAnswer.of(whole_lists, truth, candidates, KS)
    np.testing.assert_array_equal(by_scores.lists, by_lists.lists)
    half = rng.random(len(truth.items)) < 0.5
    for kept in (None, half):
        values = by_scores.values(kept)
        for name, expected in by_lists.values(kept).items():
            np.testing.assert_allclose(values[name], expected, rtol=1e-12, err_msg=name)


def test_a_part_of_the_targets_is_measured_as_if_there_were_no_others() -> None:
    kept = np.array([True, False, True])
    found = ListAnswer.of(LISTS, TRUTH, CANDIDATES, KS).values(kept, (3,))
    alone = ListAnswer.of(LISTS, TRUTH.select(kept), CANDIDATES, KS).values()
    for name, values in found.items():
        if name != "auc":  # the other targets are no rivals there
            np.testing.assert_array_equal(values, alone[name])
