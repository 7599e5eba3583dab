from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics.pairwise import cosine_similarity

from offline_eval.candidates import Candidates
from offline_eval.exposure import (
    gini,
    intra_list_diversity,
    novelty,
    popular_lists,
    popularity_bias,
    serendipity,
)

LISTS = np.array([[1, 2, 3], [4, 1, 0], [2, 0, 0], [0, 0, 0]])
INTERACTIONS = np.array([0, 8, 4, 2, 0])


def test_gini_equals_half_the_relative_mean_difference() -> None:
    counts = np.random.default_rng(0).integers(0, 9, 30)
    differences = np.abs(counts[1:, None] - counts[None, 1:]).mean()
    assert gini(counts) == pytest.approx(differences / (2 * counts[1:].mean()))


def test_gini_of_equal_and_of_single_exposure() -> None:
    assert gini(np.array([99, 5, 5, 5])) == 0
    assert gini(np.array([0, 0, 0, 0, 7])) == pytest.approx(3 / 4)
    assert np.isnan(gini(np.zeros(5, int)))


def test_novelty_by_hand() -> None:
    bits = [-np.log2(count / 18) for count in (9, 5, 3, 1)]
    expected = [np.mean(bits[:3]), (bits[3] + bits[0]) / 2, bits[1], np.nan]
    np.testing.assert_allclose(novelty(LISTS, INTERACTIONS), expected)


def test_popularity_bias_by_hand() -> None:
    expected = [14 / 3 / 3.5, 8 / 2 / 3.5, 4 / 3.5, np.nan]
    np.testing.assert_allclose(popularity_bias(LISTS, INTERACTIONS), expected)


def test_diversity_equals_a_loop_over_pairs() -> None:
    vectors = np.random.default_rng(1).normal(size=(5, 3))
    vectors[3] = 0  # no vector known
    found = intra_list_diversity(LISTS, vectors)
    similarity = cosine_similarity(vectors)
    for row, value in zip(LISTS[:2], found, strict=False):
        items = [item for item in row if item]
        pairs = [1 - similarity[a, b] for a, b in combinations(items, 2)]
        assert value == pytest.approx(np.mean(pairs))
    assert np.isnan(found[2:]).all()
    sparse = intra_list_diversity(LISTS, csr_matrix(vectors))
    np.testing.assert_allclose(sparse, found)


def test_serendipity_counts_hits_that_popularity_would_not_show() -> None:
    hits = np.array([[True, False, True], [True, True, False], [False] * 3, [False] * 3])
    obvious = np.array([[1, 4], [1, 2], [1, 2], [1, 2]])
    np.testing.assert_allclose(serendipity(hits, LISTS, obvious), [1 / 3, 1 / 3, 0, 0])


def test_the_obvious_list_is_the_most_popular_candidates() -> None:
    candidates = Candidates.without(
        np.array([0, 1, 1, 1]), np.array([1, 1, 2, 3]), num_users=3, num_items=4
    )
    found = popular_lists(INTERACTIONS, candidates, 2)
    assert found.tolist() == [[2, 3], [4, 0], [1, 2]]
