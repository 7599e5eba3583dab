import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from features.errors import InputError
from offline_eval.auc import mean_of_targets, wins_of_lists, wins_of_scores
from offline_eval.best import mask_scores
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth

flags = st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda r: any(r) and not all(r))


def auc_of_list(relevance: list[bool], listed: int) -> float:
    """`relevance` of the whole order, of which only the first `listed` are in the list."""
    targets = np.flatnonzero(relevance) + 1
    truth = Truth.of(np.zeros(len(targets), int), targets, 1)
    lists = np.array([[rank if rank <= listed else 0 for rank in range(1, len(relevance) + 1)]])
    wins = wins_of_lists(lists, truth, Candidates.everything(1, len(relevance)))
    return float(mean_of_targets(wins, truth, np.ones(len(wins), bool))[0])


def auc_of_scores(scores: np.ndarray, truth: Truth, candidates: Candidates) -> np.ndarray:
    wins = wins_of_scores(mask_scores(scores, candidates), truth, candidates)
    return mean_of_targets(wins, truth, np.ones(len(wins), bool))


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


@pytest.mark.parametrize("share", [0.3, 0.9])
@given(st.integers(0, 2**32 - 1))
def test_scores_with_ties_and_exclusions_equal_scikit_learn(share: float, seed: int) -> None:
    """With few targets each is compared with all scores; with many the scores are sorted."""
    rng = np.random.default_rng(seed)
    users, items = 6, 15
    scores = rng.integers(0, 4, (users, items + 1)).astype(float)  # many ties
    scores[scores == 0] = -np.inf  # never listed, yet candidates
    pairs = np.nonzero(rng.random((users, items)) < 0.2)
    candidates = Candidates.without(pairs[0], pairs[1] + 1, num_users=users, num_items=items)
    relevant = rng.random((users, items + 1)) < share
    relevant[:, 0] = False
    targets = np.nonzero(relevant)
    actual = auc_of_scores(scores, Truth.of(targets[0], targets[1], users), candidates)
    for user in range(users):
        kept = candidates.mask()[user]
        labels = relevant[user, kept]
        if labels.any() and not labels.all():
            expected = roc_auc_score(labels, np.maximum(scores[user, kept], -9))
            assert actual[user] == pytest.approx(expected, rel=1e-12)
        else:
            assert np.isnan(actual[user])


def test_constant_scores_are_chance() -> None:
    truth = Truth.of(np.array([0, 1, 1]), np.array([3, 1, 2]), 2)
    actual = auc_of_scores(np.ones((2, 9)), truth, Candidates.everything(2, 8))
    np.testing.assert_array_equal(actual, [0.5, 0.5])
    np.testing.assert_array_equal(auc_of_list([True, False, False], 0), 0.5)


def test_on_a_part_the_other_targets_are_no_rivals() -> None:
    truth = Truth.of(np.array([0, 0]), np.array([1, 2]), 1)
    scores = np.array([[0.0, 3.0, 1.0, 2.0, 0.0]])  # target 2 loses to item 3 and beats item 4
    candidates = Candidates.everything(1, 4)
    wins = wins_of_scores(mask_scores(scores, candidates), truth, candidates)
    assert wins.tolist() == [1.0, 0.5]
    assert mean_of_targets(wins, truth, np.array([False, True])).tolist() == [0.5]
    listed = wins_of_lists(np.array([[1, 3, 2, 4]]), truth, candidates)
    assert listed.tolist() == [1.0, 0.5]


def test_nothing_relevant_or_nothing_else_is_nan() -> None:
    truth = Truth.of(np.array([1, 1]), np.array([1, 2]), 2)
    everything = Candidates.everything(2, 2)
    assert np.isnan(auc_of_scores(np.ones((2, 3)), truth, everything)).all()
    wins = wins_of_lists(np.array([[1, 2], [1, 2]]), truth, everything)
    assert np.isnan(mean_of_targets(wins, truth, np.ones(2, bool))).all()


def test_an_excluded_item_in_the_list_is_refused() -> None:
    truth = Truth.of(np.array([0]), np.array([1]), 1)
    candidates = Candidates.without(np.array([0]), np.array([3]), num_users=1, num_items=3)
    with pytest.raises(InputError, match="row 0 holds 2 irrelevant items, the user has 1"):
        wins_of_lists(np.array([[2, 3, 1]]), truth, candidates)
