"""Arrangement against its definition: MMR and DPP by brute force, quotas by counting."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encode import Histories
from serving.arrange import Arrangement, Diversity, Fresh
from serving.block import Block
from serving.quotas import Limit
from serving.ranked import Ranked
from serving.similarity import ValueSimilarity, VectorSimilarity

RNG = np.random.default_rng(5)
NUM_ITEMS, DAY = 40, 86_400_000_000
VECTORS = RNG.standard_normal((NUM_ITEMS + 1, 4)).astype(np.float16)
VALUES = np.array([[0]] + [[i % 4 + 1] for i in range(1, NUM_ITEMS + 1)])


def block(rows: int) -> Block:
    return Block.of(Histories.of([[]] * rows), np.full(rows, 100 * DAY), NUM_ITEMS)


def ranked(rows: int, width: int, seed: int = 0) -> Ranked:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(NUM_ITEMS)[:width] + 1 for _ in range(rows)])
    scores = -np.sort(-rng.random((rows, width)).astype(np.float32), axis=1)
    return Ranked(items, scores, np.zeros((rows, width), np.uint8))


def relevance(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.min()) / (scores.max() - scores.min())


def cosine(a: int, b: int) -> float:
    x, y = VECTORS[a].astype(np.float64), VECTORS[b].astype(np.float64)
    return float((1 + x @ y / np.linalg.norm(x) / np.linalg.norm(y)) / 2)


def test_nothing_to_arrange_leaves_the_order() -> None:
    found = ranked(3, 20)
    arranged = Arrangement(window=10).arrange(found, block(3), 20)
    np.testing.assert_array_equal(arranged.items, found.items)
    np.testing.assert_array_equal(arranged.scores, found.scores)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
def test_mmr_by_its_definition(weight: float) -> None:
    found = ranked(4, 25)
    arrangement = Arrangement(15, diversity=Diversity("mmr", weight, VectorSimilarity(VECTORS)))
    arranged = arrangement.arrange(found, block(4), 8)
    for row in range(4):
        window, rel = found.items[row, :15].tolist(), relevance(found.scores[row, :15])
        expected: list[int] = []
        while len(expected) < 8:
            gains = [
                (1 - weight) * rel[n]
                - weight * max((cosine(item, other) for other in expected), default=0)
                if item not in expected
                else -np.inf
                for n, item in enumerate(window)
            ]
            expected.append(window[int(np.argmax(gains))])
        assert arranged.items[row].tolist() == expected
        scores = dict(zip(found.items[row], found.scores[row], strict=True))
        assert arranged.scores[row].tolist() == [scores[item] for item in expected]


@pytest.mark.parametrize("weight", [0.0, 0.2, 0.6])
def test_dpp_grows_the_determinant_greedily(weight: float) -> None:
    found = ranked(4, 25, seed=1)
    arrangement = Arrangement(12, diversity=Diversity("dpp", weight, VectorSimilarity(VECTORS)))
    arranged = arrangement.arrange(found, block(4), 4)
    for row in range(4):
        window, rel = found.items[row, :12].tolist(), relevance(found.scores[row, :12])
        gain_of = dict(zip(window, rel, strict=True))
        expected: list[int] = []

        def volume(items: list[int]) -> float:
            kernel = [[1.0 if a == b else cosine(a, b) for b in items] for a in items]
            return float(np.linalg.det(kernel)) if items else 1.0

        for _ in range(4):
            free = [item for item in window if item not in expected]
            gains = [
                (1 - weight) * gain_of[item]
                + weight * np.log(max(volume([*expected, item]) / volume(expected), 1e-6))
                for item in free
            ]
            expected.append(free[int(np.argmax(gains))])
        assert arranged.items[row].tolist() == expected


def test_more_weight_gives_more_variety() -> None:
    found = ranked(50, 40, seed=2)
    alike = []
    for weight in (0.0, 0.3, 0.6, 0.9):
        diversity = Diversity("mmr", weight, VectorSimilarity(VECTORS))
        lists = Arrangement(40, diversity=diversity).arrange(found, block(50), 6).items
        alike.append(
            np.mean([cosine(a, b) for row in lists.tolist() for a in row for b in row if a < b])
        )
    assert all(after < before for before, after in pairwise(alike))


def test_shared_values_are_similarity() -> None:
    values = np.array([[0, 0], [2, 3], [2, 0], [3, 2], [4, 5], [0, 0]])
    similarity = ValueSimilarity(values)
    found = similarity.to(similarity.gather(np.array([[1, 2, 3, 4, 5]])), np.array([0]))
    np.testing.assert_allclose(found, [[1, 1 / np.sqrt(2), 1, 0, 0]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 6), st.integers(1, 25))
def test_quotas_hold_and_change_no_more_than_they_must(
    seed: int, at_most: int, at_least: int, k: int
) -> None:
    """at_most of each value, at_least of value 2, among the first eight places."""
    most = Limit(VALUES, 5, at_most, 0, 8)
    least = Limit(np.where(VALUES == 2, VALUES, 0), 5, None, at_least, 8)
    found = ranked(3, 25, seed)
    lists = Arrangement(25, quotas=(most, least)).arrange(found, block(3), k).items
    for row in range(3):
        items = [item for item in lists[row].tolist() if item]
        values = VALUES[items[:8], 0].tolist()
        assert max([values.count(value) for value in range(1, 5)], default=0) <= at_most
        there_are = int((VALUES[found.items[row], 0] == 2).sum())
        if k >= 8 and len(items) >= 8:
            assert values.count(2) >= min(at_least, at_most, there_are)
        expected = []  # the same by hand, when at_least asks for nothing
        for item in found.items[row].tolist():
            if [VALUES[i, 0] for i in expected].count(VALUES[item, 0]) < at_most:
                expected.append(item)
        if not at_least:
            assert items[: min(8, k)] == expected[: min(8, k)]


def test_a_list_ends_where_a_quota_leaves_nothing() -> None:
    found = ranked(1, 25)
    lists = Arrangement(25, quotas=(Limit(VALUES, 5, 1, 0, 10),)).arrange(found, block(1), 25)
    assert (lists.items[0] > 0).sum() == 4  # one of each value
    assert (lists.scores[0, 4:] == -np.inf).all()


def test_places_beyond_a_quota_are_free_again() -> None:
    found = ranked(2, 25)
    lists = Arrangement(25, quotas=(Limit(VALUES, 5, 2, 0, 6),)).arrange(found, block(2), 25)
    for row in range(2):
        assert sorted(lists.items[row].tolist()) == sorted(found.items[row].tolist())


def test_fresh_items_rise_by_the_formula() -> None:
    times = np.arange(NUM_ITEMS + 1) * DAY  # item i is 100 - i days old
    times[3] = 0
    fresh = Fresh(times, weight=0.5, half_life=10)
    bonus = fresh.bonus(np.array([[40, 20, 3]]), np.array([100 * DAY]))
    np.testing.assert_allclose(
        bonus, [[0.5 * 2 ** (-60 / 10), 0.5 * 2 ** (-80 / 10), 0]], rtol=1e-6
    )
    found = ranked(1, 25)
    lists = Arrangement(25, freshness=Fresh(times, 1e6, 10)).arrange(found, block(1), 25).items
    known = [item for item in found.items[0].tolist() if item != 3]
    assert [item for item in lists[0].tolist() if item != 3] == sorted(known, reverse=True)


def test_entries_of_other_sources_stay_below_in_their_order() -> None:
    found = ranked(1, 10)
    sources = np.array([[0] * 4 + [1] * 6], np.uint8)
    scores = np.concatenate([found.scores[:, :4], found.scores[:, 4:] * 1000], axis=1)
    mixed = Ranked(found.items, scores, sources)
    lists = Arrangement(10, freshness=Fresh(np.zeros(NUM_ITEMS + 1, np.int64), 1.0, 1.0))
    np.testing.assert_array_equal(lists.arrange(mixed, block(1), 10).items, found.items)


def test_prefixes_agree_whatever_is_asked_for() -> None:
    diversity = Diversity("mmr", 0.5, VectorSimilarity(VECTORS))
    arrangement = Arrangement(20, diversity=diversity, quotas=(Limit(VALUES, 5, 3, 0, 10),))
    found = ranked(3, 30)
    long: Any = arrangement.arrange(found, block(3), 30).items
    for k in (1, 5, 10, 20):
        np.testing.assert_array_equal(arrangement.arrange(found, block(3), k).items, long[:, :k])
    assert (long[:, 20:] == found.items[:, 20:]).all()
