import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from offline_eval.metrics import (
    average_precision,
    check_hits,
    hit_rate,
    mrr,
    ndcg,
    ndcg_of_full_list,
    precision,
    r_precision,
    recall,
)

ALL = [hit_rate, recall, precision, ndcg, mrr, average_precision]
EVERY = [*ALL, ndcg_of_full_list]
Metric = Callable[..., np.ndarray]

lists = st.lists(st.booleans(), min_size=1, max_size=30)


def test_each_metric_by_hand() -> None:
    hits, relevant = np.array([[False, True, True, False]]), np.array([3])
    dcg = 1 / math.log2(3) + 1 / math.log2(4)
    ideal = 1 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    expected = [1.0, 2 / 3, 2 / 4, dcg / ideal, 1 / 2, (1 / 2 + 2 / 3) / 3]
    actual = [metric(hits, relevant)[0] for metric in ALL]
    np.testing.assert_allclose(actual, expected, rtol=1e-15)


def test_more_relevant_items_than_ranks() -> None:
    hits, relevant = np.ones((1, 2), bool), np.array([5])
    actual = [metric(hits, relevant)[0] for metric in ALL]
    np.testing.assert_allclose(actual, [1, 2 / 5, 1, 1, 1, 1])


@given(lists.filter(any), st.data())
def test_ndcg_equals_scikit_learn(relevance: list[bool], data: st.DataObject) -> None:
    relevance = [*relevance, False]  # scikit-learn refuses a single document
    k = data.draw(st.integers(1, len(relevance)))
    scores = np.arange(len(relevance), 0, -1)  # distinct, so no ties: column order is rank order
    expected = ndcg_score([relevance], [scores], k=k)
    actual = ndcg(np.array([relevance[:k]]), np.array([sum(relevance)]))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@given(lists.filter(any))
def test_average_precision_of_a_full_list_equals_scikit_learn(relevance: list[bool]) -> None:
    scores = np.arange(len(relevance), 0, -1)
    expected = average_precision_score(relevance, scores)
    actual = average_precision(np.array([relevance]), np.array([sum(relevance)]))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_equal_to_ir_measures_on_random_lists() -> None:
    rng = np.random.default_rng(0)
    k, users, items = 7, 60, 40
    qrels, run, hits, relevant = [], [], np.zeros((users, k), bool), np.zeros(users, int)
    for user in range(users):
        truth = rng.choice(items, rng.integers(1, 12), replace=False)
        ranked = rng.permutation(items)[: rng.integers(1, k + 1)]  # lists of several lengths
        qrels += [ir_measures.Qrel(str(user), str(item), 1) for item in truth]
        run += [ir_measures.ScoredDoc(str(user), str(i), -float(r)) for r, i in enumerate(ranked)]
        hits[user, : len(ranked)] = np.isin(ranked, truth)
        relevant[user] = len(truth)
    pairs = {
        ir_measures.Success @ k: hit_rate(hits, relevant),
        ir_measures.R @ k: recall(hits, relevant),
        ir_measures.P @ k: precision(hits, relevant),
        ir_measures.nDCG @ k: ndcg(hits, relevant),
        ir_measures.RR @ k: mrr(hits, relevant),
        ir_measures.Rprec: r_precision(np.pad(hits, ((0, 0), (0, 9))), relevant),
        # trec_eval divides by R where ours divides by min(K, R)
        ir_measures.AP @ k: average_precision(hits, relevant) * np.minimum(relevant, k) / relevant,
    }
    for found in ir_measures.iter_calc(list(pairs), qrels, run):
        np.testing.assert_allclose(pairs[found.measure][int(found.query_id)], found.value, 1e-9)


def test_the_other_ndcg_by_hand() -> None:
    discounts = [1 / math.log2(rank + 1) for rank in (1, 2, 3)]
    found = ndcg_of_full_list(np.array([[False, True, False]]), np.array([1]))
    np.testing.assert_allclose(found, [discounts[1] / sum(discounts)])
    many = np.array([[True, False, True]]), np.array([4])
    np.testing.assert_allclose(ndcg_of_full_list(*many), ndcg(*many))


def test_r_precision_by_hand() -> None:
    hits = np.array([[True, False, True], [True, False, True], [True, True, True], [False] * 3])
    found = r_precision(hits, np.array([2, 3, 4, 0]))
    np.testing.assert_allclose(found, [1 / 2, 2 / 3, np.nan, np.nan])


@pytest.mark.parametrize("metric", EVERY)
@given(hits=lists.filter(lambda hits: len(hits) > 1), data=st.data())
def test_moving_a_hit_up_never_lowers_a_metric(
    metric: Metric, hits: list[bool], data: st.DataObject
) -> None:
    r = data.draw(st.integers(1, len(hits) - 1))
    better = hits.copy()
    better[r - 1], better[r] = hits[r - 1] or hits[r], hits[r - 1] and hits[r]
    num_relevant = np.array([sum(hits) + 1])
    assert metric(np.array([better]), num_relevant) >= metric(np.array([hits]), num_relevant)


@pytest.mark.parametrize("metric", EVERY)
def test_a_batch_equals_its_rows_and_nothing_to_find_is_nan(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    hits = rng.random((50, 9)) < 0.3
    relevant = hits.sum(axis=1) + rng.integers(0, 4, 50)
    together = metric(hits, relevant)
    apart = np.concatenate([metric(hits[u : u + 1], relevant[u : u + 1]) for u in range(50)])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(np.isnan(together), relevant == 0)
    defined = together[relevant > 0]
    assert ((defined >= 0) & (defined <= 1)).all()


@pytest.mark.parametrize("metric", EVERY)
def test_no_users_give_no_values(metric: Metric) -> None:
    assert metric(np.zeros((0, 5), bool), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize("metric", EVERY)
def test_a_repeated_hit_is_refused(metric: Metric) -> None:
    hits = np.array([[True, False], [True, True], [True, True]])
    with pytest.raises(ValueError, match=r"row 1 has 2 hits but 1 relevant items \(2 such rows\)"):
        metric(hits, np.array([1, 1, 0]))


def test_wrong_shapes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        check_hits(np.zeros((2, 3), bool), np.zeros(3, int))
    with pytest.raises(ValueError, match="type bool, got float64"):
        check_hits(np.zeros((2, 3)), np.zeros(2, int))  # pyright: ignore[reportArgumentType]
