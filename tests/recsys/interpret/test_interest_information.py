import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, ndcg_score

from recsys.interpret.interest_information import Cooccurrence, mutual_information, ranking_ndcg


def test_an_independent_pair_shares_nothing_and_an_identical_bit_one() -> None:
    independent = np.outer([300, 700], [200, 800]) / 1000
    identical = np.array([[500.0, 0], [0, 500]])
    found = mutual_information(np.stack([independent, identical]))
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[1] == pytest.approx(1, abs=1e-5)


def test_information_equals_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    x = draw.random(500) < 0.3
    y = np.where(draw.random(500) < 0.7, x, draw.random(500) < 0.5)
    counts = np.array([[(~x & ~y).sum(), (x & ~y).sum()], [(~x & y).sum(), (x & y).sum()]])
    expected = mutual_info_score(x, y) / math.log(2)
    assert mutual_information(counts.astype(float)) == pytest.approx(expected, rel=1e-6)


def test_counts_equal_their_definition() -> None:
    draw = np.random.default_rng(1)
    targets, behaviours = draw.random((40, 3)) < 0.5, draw.random((40, 4, 2)) < 0.4
    labels = draw.random(40) < 0.4
    halves = [slice(0, 17), slice(17, 40)]
    first, second = (Cooccurrence.count(targets[h], behaviours[h], labels[h]) for h in halves)
    found = first + second
    for label in (0, 1):
        for t in range(3):
            mine = (labels == label) & targets[:, t]
            assert found.rows[label, t] == mine.sum()
            for v, p in np.ndindex(4, 2):
                assert found.present[label, t, v, p] == (mine & behaviours[:, v, p]).sum()
    mine = targets[:, 1]
    expected = mutual_info_score(behaviours[mine, 2, 1], labels[mine]) / math.log(2)
    assert found.information()[1, 2, 1] == pytest.approx(expected, rel=1e-3)
    assert found.frequent(int(targets[:, 0].sum()))[0]
    assert not found.frequent(41).any()


def test_the_ndcg_equals_scikit_learns_ties_included() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        gains, scores = draw.random(12), draw.integers(0, 4, 12).astype(float)
        assert ranking_ndcg(gains, scores, 12) == pytest.approx(ndcg_score([gains], [scores]))
        apart = draw.random(12)
        assert ranking_ndcg(gains, apart, 5) == pytest.approx(ndcg_score([gains], [apart], k=5))
    assert math.isnan(ranking_ndcg(np.zeros(3), np.arange(3.0), 2))
