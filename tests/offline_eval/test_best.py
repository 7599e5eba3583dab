import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from offline_eval.best import CHUNK, Best, mask_scores
from offline_eval.candidates import Candidates

seeds = st.integers(0, 2**32 - 1)


def top_lists(scores: np.ndarray, candidates: Candidates, k: int, *, seed: int = 0) -> np.ndarray:
    return Best.of(mask_scores(scores, candidates), k, seed=seed).lists(k)


def some_candidates(rng: np.random.Generator, num_users: int, num_items: int) -> Candidates:
    users, items = rng.integers(0, num_users, 12), rng.integers(1, num_items + 1, 12)
    return Candidates.without(users, items, num_users=num_users, num_items=num_items)


@given(seeds, st.integers(1, 9), st.sampled_from([1, 3, 40]))
def test_many_chunks_give_what_a_full_sort_gives(seed: int, k: int, levels: int) -> None:
    """Whole and broken chunks, with all scores tied, few levels, and many."""
    rng = np.random.default_rng(seed)
    num_items = int(rng.integers(2, 30)) * CHUNK + int(rng.integers(0, CHUNK))
    scores = rng.integers(0, levels, (3, num_items + 1)).astype(np.float32)
    candidates = some_candidates(rng, 3, num_items)
    masked = mask_scores(scores, candidates)
    found = Best.of(masked.copy(), k)
    for user, row in enumerate(masked):
        kth = np.sort(row)[-k]
        kept = found.items[user][found.items[user] > 0]
        assert set(kept) == set(np.flatnonzero(row >= kth)), "the k best and all ties at the edge"
        np.testing.assert_array_equal(row[kept], -np.sort(-row[kept]))
        np.testing.assert_array_equal(found.scores[user][: len(kept)], row[kept])
        assert (found.scores[user][len(kept) :] == -np.inf).all()


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 4\), expected \(2, 5\)"):
        mask_scores(np.zeros((2, 4)), Candidates.everything(2, 4))


@given(seeds, st.integers(1, 12))
def test_lists_are_the_best_candidates_in_order(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = some_candidates(rng, 4, 7)
    scores = rng.normal(size=(4, 8)).round(1)
    for user, row in enumerate(top_lists(scores, candidates, k)):
        allowed = [item for item in range(1, 8) if candidates.mask()[user, item]]
        expected = sorted(-scores[user, item] for item in allowed)[:k]
        found = [item for item in row if item]
        assert set(found) <= set(allowed)
        assert [-scores[user, item] for item in found] == expected
        assert len(set(found)) == len(found)
        assert (row[len(found) :] == 0).all()


def test_ties_favour_no_item() -> None:
    everything = Candidates.everything(1, 9)
    first = [top_lists(np.zeros((1, 10)), everything, 1, seed=seed)[0, 0] for seed in range(900)]
    counts = np.bincount(first, minlength=10)[1:]
    assert counts.min() > 60
    assert counts.max() < 140


def test_ties_do_not_depend_on_the_block_of_users() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (6, 20)).astype(float)
    everything = top_lists(scores, Candidates.everything(6, 19), 5)
    alone = top_lists(scores[4:5], Candidates.everything(1, 19), 5)
    np.testing.assert_array_equal(everything[4:5], alone)


def test_what_cannot_be_recommended_is_not_listed() -> None:
    scores = np.array([[-np.inf, 1.0, -np.inf, -3.0]])
    lists = top_lists(scores, Candidates.everything(1, 3), 3)
    assert lists.tolist() == [[1, 3, 0]]


def test_nan_scores_are_refused() -> None:
    scores = np.zeros((3, 4))
    scores[1:, 2] = np.nan
    with pytest.raises(InputError, match=r"row 1 hold nan \(2 of 3 rows"):
        top_lists(scores, Candidates.everything(3, 3), 2)
