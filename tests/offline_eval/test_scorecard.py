import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from features.errors import InputError
from offline_eval.candidates import Candidates, top_lists
from offline_eval.hits import Truth
from offline_eval.metrics import ndcg
from offline_eval.scorecard import METRICS, score_lists, score_scores

KS = (1, 3)
LISTS = np.array([[3, 1, 4, 2, 0], [5, 4, 3, 1, 0]])  # all candidates of five items
TRUTH = Truth.of(np.array([0, 1, 1]), np.array([1, 3, 2]), 2)
CANDIDATES = Candidates.without(np.array([0, 1]), np.array([5, 2]), num_users=2, num_items=5)


def test_every_metric_at_every_cut_off() -> None:
    values = score_lists(LISTS, TRUTH, CANDIDATES, KS)
    assert set(values) == {f"{name}@{k}" for name in METRICS for k in KS} | {"auc"}
    assert values["hit_rate@1"].tolist() == [0, 0]
    assert values["hit_rate@3"].tolist() == [1, 1]
    assert values["mrr@3"].tolist() == [1 / 2, 1 / 3]
    hits = np.array([[False, True, False], [False, False, True]])
    np.testing.assert_array_equal(values["ndcg@3"], ndcg(hits, np.array([1, 2])))


def test_a_target_that_cannot_be_listed_is_a_miss_and_no_part_of_auc() -> None:
    values = score_lists(LISTS, TRUTH, CANDIDATES, KS)
    assert values["recall@3"].tolist() == [1, 1 / 2]  # user 1: item 2 is excluded
    order = [5, 4, 3, 1]
    expected = roc_auc_score([item == 3 for item in order], [4, 3, 2, 1])
    np.testing.assert_allclose(values["auc"], [2 / 3, expected])


def test_blocks_of_users_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(30)[:10] + 1 for _ in range(20)])
    truth = Truth.of(rng.integers(0, 20, 50), rng.integers(1, 31, 50), 20)
    whole = score_lists(lists, truth, Candidates.everything(20, 30), KS)
    blocks = [(0, 7), (7, 8), (8, 20)]
    parts = [
        score_lists(lists[a:b], truth.block(a, b), Candidates.everything(b - a, 30), KS)
        for a, b in blocks
    ]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))


def test_an_excluded_item_in_a_list_is_refused() -> None:
    lists = np.array([[3, 5, 4, 2, 0], [5, 4, 3, 1, 0]])
    with pytest.raises(InputError, match=r"row 0 holds item 5, which is excluded.*\(1 such"):
        score_lists(lists, TRUTH, CANDIDATES, KS)


def test_lists_shorter_than_the_cut_offs_are_refused() -> None:
    with pytest.raises(InputError, match="lists of 5 ranks cannot be cut at 10"):
        score_lists(LISTS, TRUTH, CANDIDATES, (10,))


def test_scores_without_ties_give_what_their_lists_give() -> None:
    rng = np.random.default_rng(1)
    scores = np.array([rng.permutation(31) for _ in range(20)]).astype(np.float32)
    truth = Truth.of(rng.integers(0, 20, 50), rng.integers(1, 31, 50), 20)
    users, items = rng.integers(0, 20, 60), rng.integers(1, 31, 60)
    candidates = Candidates.without(users, items, num_users=20, num_items=30)
    values, lists = score_scores(scores, truth, candidates, KS)
    whole_lists = top_lists(scores, candidates, 30)
    np.testing.assert_array_equal(lists, whole_lists[:, : max(KS)])
    for name, expected in score_lists(whole_lists, truth, candidates, KS).items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-12, err_msg=name)
