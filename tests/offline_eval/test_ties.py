from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from offline_eval import metrics
from offline_eval.best import Best, mask_scores
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth
from offline_eval.ties import EXPECTED, TiedRanks, tied_ranks

PLAIN = {
    "hit_rate": metrics.hit_rate,
    "recall": metrics.recall,
    "precision": metrics.precision,
    "ndcg": metrics.ndcg,
    "mrr": metrics.mrr,
    "map": metrics.average_precision,
    "ndcg_full": metrics.ndcg_of_full_list,
    "r_precision": metrics.r_precision,
}
ITEMS = 6


def every_order(scores: list[int]) -> list[list[int]]:
    """All orders of items 1..N in which a higher score comes first."""
    groups = [[i + 1 for i, s in enumerate(scores) if s == level] for level in sorted(set(scores))]
    orders = product(*(permutations(group) for group in reversed(groups)))
    return [[item for group in order for item in group] for order in orders]


def ranks_of(scores: np.ndarray, truth: Truth, candidates: Candidates, k: int) -> TiedRanks:
    masked = mask_scores(scores, candidates)
    return tied_ranks(Best.of(masked, k), truth, masked[truth.users, truth.items], k)


def expected(name: str, scores: np.ndarray, truth: Truth, k: int) -> np.ndarray:
    everything = Candidates.everything(len(scores), scores.shape[1] - 1)
    return EXPECTED[name](ranks_of(scores, truth, everything, k), truth.num_relevant)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 2), min_size=ITEMS, max_size=ITEMS),
    st.sets(st.integers(1, ITEMS), min_size=1),
    st.integers(1, ITEMS),
)
def test_the_mean_over_all_orders_of_the_ties(scores: list[int], targets: set[int], k: int) -> None:
    orders = np.array(every_order(scores))
    hits = np.isin(orders, list(targets))[:, :k]
    relevant = np.full(len(hits), len(targets))
    truth = Truth.of(np.zeros(len(targets), int), np.array(sorted(targets)), 1)
    table = np.array([[-np.inf, *scores]])
    for name, plain in PLAIN.items():
        mean = plain(hits, relevant).mean()
        found = expected(name, table, truth, k)[0]
        assert found == pytest.approx(mean, rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("k", [1, 3, 12])
def test_ndcg_with_ties_equals_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 4, (30, 13)).astype(float)
    relevant = rng.random((30, 13)) < 0.3
    relevant[:, 0], relevant[:, 1] = False, True
    users, items = np.nonzero(relevant)
    found = expected("ndcg", scores, Truth.of(users, items, 30), k)
    for user in range(30):
        reference = ndcg_score(relevant[user : user + 1, 1:], scores[user : user + 1, 1:], k=k)
        assert found[user] == pytest.approx(reference, rel=1e-12)


@pytest.mark.parametrize("name", EXPECTED)
def test_without_ties_it_is_the_plain_metric(name: str) -> None:
    rng = np.random.default_rng(0)
    scores = np.array([rng.permutation(31) for _ in range(20)]).astype(float)
    truth = Truth.of(rng.integers(0, 20, 60), rng.integers(1, 31, 60), 20)
    order = np.argsort(-scores[:, 1:], axis=1) + 1
    hits = np.array([np.isin(row, truth.block(u, u + 1).items) for u, row in enumerate(order)])
    plain = PLAIN[name](hits[:, :7], truth.num_relevant)
    np.testing.assert_allclose(expected(name, scores, truth, 7), plain, rtol=1e-12)


def test_constant_scores_score_like_chance() -> None:
    truth = Truth.of(np.array([0]), np.array([3]), 1)
    scores = np.zeros((1, 101))
    assert expected("hit_rate", scores, truth, 10)[0] == pytest.approx(10 / 100)
    discount = 1 / np.log2(np.arange(2, 12))
    assert expected("ndcg", scores, truth, 10)[0] == pytest.approx(discount.sum() / 100)
    assert expected("mrr", scores, truth, 10)[0] == pytest.approx(
        (1 / np.arange(1, 11)).sum() / 100
    )


def test_excluded_and_impossible_items_take_no_rank() -> None:
    scores = np.array([[-np.inf, 9.0, 5.0, 5.0, -np.inf, 1.0]])
    truth = Truth.of(np.array([0, 0, 0]), np.array([1, 2, 4]), 1)
    candidates = Candidates.without(np.array([0]), np.array([1]), num_users=1, num_items=5)
    ranks = ranks_of(scores, truth, candidates, 5)
    assert EXPECTED["recall"](ranks.cut(1), truth.num_relevant)[0] == pytest.approx(0.5 / 3)
    assert EXPECTED["recall"](ranks, truth.num_relevant)[0] == pytest.approx(1 / 3)


def test_nothing_to_find_is_nan() -> None:
    truth = Truth.of(np.array([1]), np.array([1]), 2)
    for name in EXPECTED:
        found = expected(name, np.zeros((2, 4)), truth, 2)
        assert np.isnan(found).tolist() == [True, False]
