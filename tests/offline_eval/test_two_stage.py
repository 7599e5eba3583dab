import numpy as np

from offline_eval.hits import Truth, find_targets
from offline_eval.metrics import ndcg
from offline_eval.two_stage import FATES, UNION, count_fates, measure_candidates

TRUTH = Truth.of(np.array([0, 0, 0, 1]), np.array([4, 7, 9, 2]), 3)
CANDIDATES = np.array([[7, 1, 4, 0], [5, 6, 0, 0], [1, 0, 0, 0]])
PROPOSED = {
    "model": np.array([[True, True, False, False], [True, False, False, False], [False] * 4]),
    "popularity": np.array([[True, False, True, False], [True, True, False, False], [True] * 4]),
}


def test_recall_of_the_union_and_of_each_source() -> None:
    found = measure_candidates(CANDIDATES, PROPOSED, TRUTH, 2)
    np.testing.assert_allclose(found.recalls[UNION], [2 / 3, 0, np.nan])
    np.testing.assert_allclose(found.recalls["model"], [1 / 3, 0, np.nan])
    np.testing.assert_allclose(found.recalls["popularity"], [2 / 3, 0, np.nan])
    assert found.is_found.tolist() == [True, True, False, False]


def test_the_oracle_puts_the_relevant_candidates_on_top() -> None:
    for k in (1, 3):
        found = measure_candidates(CANDIDATES, PROPOSED, TRUTH, k)
        best = np.array([[True, True, False], [False] * 3, [False] * 3])[:, :k]
        np.testing.assert_array_equal(found.oracle_ndcg, ndcg(best, TRUTH.num_relevant))


def test_no_order_of_the_candidates_beats_the_oracle() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(30)[:12] + 1 for _ in range(50)])
    truth = Truth.of(rng.integers(0, 50, 200), rng.integers(1, 31, 200), 50)
    oracle = measure_candidates(lists, {}, truth, 5).oracle_ndcg
    for _ in range(20):
        shuffled = rng.permuted(lists, axis=1)
        hits = np.array(
            [np.isin(row[:5], truth.block(u, u + 1).items) for u, row in enumerate(shuffled)]
        )
        assert not (ndcg(hits, truth.num_relevant) > oracle + 1e-12).any()


def test_fates_by_hand() -> None:
    reachable = np.array([False, True, True, True, True])
    found = np.array([False, False, True, True, False])
    listed = np.array([False, False, False, True, True])
    assert count_fates(reachable, found, listed) == dict(zip(FATES, (1, 1, 1, 2), strict=True))


def test_targets_found_equal_membership() -> None:
    rng = np.random.default_rng(1)
    truth = Truth.of(rng.integers(0, 9, 60), rng.integers(1, 20, 60), 9)
    lists = np.array([rng.permutation(19)[:6] + 1 for _ in range(9)])
    expected = [item in lists[user] for user, item in zip(truth.users, truth.items, strict=True)]
    assert find_targets(lists, truth).tolist() == expected
