"""The best of scores that come in chunks: those of a sort of all, ties included."""

import numpy as np
import pytest

from serving import running_top
from serving.running_top import RunningTop
from serving.topk import scores_of, sort_keys

RNG = np.random.default_rng(0)


def by_sorting(scores_VB: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference: a stable sort of each history's scores, items from 1."""
    order_BV = np.argsort(-scores_VB.T, axis=1, kind="stable")[:, :k]
    scores_BK = np.take_along_axis(scores_VB.T, order_BV, axis=1)
    return np.where(scores_BK == -np.inf, 0, order_BV + 1), scores_BK


def in_chunks(scores_VB: np.ndarray, k: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    found = RunningTop(scores_VB.shape[1], k)
    for start in range(0, len(scores_VB), chunk):
        found.add(scores_VB[start : start + chunk], start + 1)
    return found.best()


SCORES = {
    "normal": RNG.standard_normal((3_000, 7)),
    "ties": RNG.integers(-2, 3, (3_000, 7)),
    "all equal": np.zeros((3_000, 7)),
    "negative": -RNG.random((3_000, 7)) - 1,
    "rising": np.arange(21_000).reshape(3_000, 7),
    "few permitted": np.where(RNG.random((3_000, 7)) < 0.002, 1.5, -np.inf),
    "none permitted to one": np.where(np.arange(7) == 3, -np.inf, RNG.random((3_000, 7))),
    "zeros of both signs": np.where(RNG.random((3_000, 7)) < 0.5, 0.0, -0.0),
}


@pytest.mark.parametrize("chunk", [1, 40, 999, 3_000])
@pytest.mark.parametrize("name", SCORES)
def test_chunks_find_what_a_sort_finds(name: str, chunk: int) -> None:
    scores = SCORES[name].astype(np.float32)
    for k in (1, 10, 200):
        items, best = in_chunks(scores, k, chunk)
        expected_items, expected = by_sorting(scores, k)
        np.testing.assert_array_equal(items, expected_items)
        np.testing.assert_array_equal(best, expected)


def test_most_entries_are_never_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_out = []
    monkeypatch.setattr(
        running_top,
        "sort_keys",
        lambda scores, items: sorted_out.append(len(scores)) or sort_keys(scores, items),
    )
    in_chunks(RNG.standard_normal((20_000, 50)).astype(np.float32), 20, 5_000)
    assert 20 * 50 <= sum(sorted_out) < 4 * 20 * 50


def test_a_key_holds_its_score() -> None:
    scores = np.array([1.5, -2.25, 0, np.finfo(np.float32).max, -1e-30], np.float32)
    keys = sort_keys(scores, np.arange(5))
    np.testing.assert_array_equal(scores_of(keys), scores)
    assert np.argsort(keys).tolist() == [3, 0, 2, 4, 1]
