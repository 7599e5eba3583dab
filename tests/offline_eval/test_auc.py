import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from offline_eval.auc import auc, auc_of_scores
from offline_eval.hits import Truth

flags = st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda r: any(r) and not all(r))


def auc_of_list(relevance: list[bool], listed: int) -> float:
    """`relevance` of the whole order, of which only the first `listed` are in the list."""
    counts = np.array([listed]), np.array([sum(relevance)]), np.array([relevance.count(False)])
    return float(auc(np.array([relevance[:listed]], bool).reshape(1, -1), *counts)[0])


@given(flags)
def test_a_full_order_equals_scikit_learn(relevance: list[bool]) -> None:
    scores = np.arange(len(relevance), 0, -1)
    expected = roc_auc_score(relevance, scores)
    assert auc_of_list(relevance, len(relevance)) == pytest.approx(expected, rel=1e-12)


@given(flags, st.data())
def test_a_short_list_equals_scikit_learn_with_the_rest_tied(
    relevance: list[bool], data: st.DataObject
) -> None:
    listed = data.draw(st.integers(0, len(relevance)))
    scores = np.maximum(listed - np.arange(len(relevance)), 0)  # unlisted: all 0
    expected = roc_auc_score(relevance, scores)
    assert auc_of_list(relevance, listed) == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_scores_with_ties_and_exclusions_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = 6, 15
    scores = rng.integers(0, 4, (users, items + 1)).astype(float)  # many ties
    candidates = rng.random((users, items + 1)) < 0.8
    relevant = rng.random((users, items + 1)) < 0.3
    relevant[:, 0] = False
    targets = np.nonzero(relevant)
    actual = auc_of_scores(scores, Truth.of(targets[0], targets[1], users), candidates)
    for user in range(users):
        kept = candidates[user].copy()
        kept[0] = False
        labels = relevant[user, kept]
        if labels.any() and not labels.all():
            expected = roc_auc_score(labels, scores[user, kept])
            assert actual[user] == pytest.approx(expected, rel=1e-12)
        else:
            assert np.isnan(actual[user])


def test_constant_scores_are_chance() -> None:
    truth = Truth.of(np.array([0, 1, 1]), np.array([3, 1, 2]), 2)
    actual = auc_of_scores(np.ones((2, 9)), truth, np.ones((2, 9), bool))
    np.testing.assert_array_equal(actual, [0.5, 0.5])
    np.testing.assert_array_equal(auc_of_list([True, False, False], 0), 0.5)


def test_nothing_relevant_or_nothing_else_is_nan() -> None:
    hits = np.array([[False, False], [True, True]])
    counts = np.array([2, 2]), np.array([0, 2]), np.array([5, 0])
    assert np.isnan(auc(hits, *counts)).all()


def test_an_excluded_item_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="row 0 lists 2 irrelevant items of 1"):
        auc(np.array([[False, False]]), np.array([2]), np.array([1]), np.array([1]))
