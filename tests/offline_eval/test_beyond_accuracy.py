import numpy as np
import pytest

from offline_eval.beyond_accuracy import ItemCounts


def counted(lists: np.ndarray, num_items: int) -> ItemCounts:
    counts = ItemCounts(num_items)
    for rows in np.array_split(lists, 3):
        counts.add(rows)
    return counts


def test_coverage_by_hand() -> None:
    counts = counted(np.array([[1, 2], [2, 3], [2, 0], [0, 0]]), 6)
    assert counts.counts_V.tolist() == [0, 1, 3, 1, 0, 0, 0]
    assert counts.coverage().value == 3 / 6


def test_the_interval_is_the_jackknife_by_leaving_users_out() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(200)[:3] + 1 for _ in range(60)])
    found = counted(lists, 200).coverage()
    shares = [len(np.unique(np.delete(lists, u, axis=0))) / 200 for u in range(60)]
    without = np.array(shares)
    error = np.sqrt(59 / 60 * np.sum((without - without.mean()) ** 2))
    assert found.value == len(np.unique(lists)) / 200
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-5)


def test_the_interval_holds_the_coverage_of_other_users_like_these() -> None:
    rng = np.random.default_rng(1)
    popularity = rng.dirichlet(np.full(300, 0.3))

    def draw() -> np.ndarray:
        return np.array([rng.choice(300, 5, replace=False, p=popularity) + 1 for _ in range(80)])

    truth = np.mean([len(np.unique(draw())) / 300 for _ in range(100)])
    estimates = [counted(draw(), 300).coverage() for _ in range(100)]
    held = sum(e.low <= truth <= e.high for e in estimates)
    assert held >= 90


def test_everything_shown_to_everyone_has_no_spread() -> None:
    found = counted(np.tile([1, 2, 3], (9, 1)), 3).coverage()
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_no_users_give_nan() -> None:
    assert np.isnan(ItemCounts(5).coverage().value)
