"""The approximate index against exact search, with and without filters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import serving.index
from features.encode import Histories
from serving.block import Block
from serving.index import ApproximateIndex, BlockedIndex, ExactIndex, build_index
from serving.policy import Policy, Window
from serving.recommender import Recommender

RNG = np.random.default_rng(0)
NUM_ITEMS, DIM = 6_000, 16


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    centres = RNG.standard_normal((50, DIM))
    vectors = centres[RNG.integers(0, 50, NUM_ITEMS + 1)]
    vectors = vectors + 0.5 * RNG.standard_normal(vectors.shape)
    vectors[0] = 0
    return vectors.astype(np.float16)


@pytest.fixture(scope="module")
def approximate(vectors: np.ndarray) -> ApproximateIndex:
    return ApproximateIndex(vectors)


def block_of(histories: list[list[int]]) -> Block:
    return Block.of(Histories.of(histories), np.zeros(len(histories), np.int64), NUM_ITEMS)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    pairs = zip(found, exact, strict=True)
    return float(np.mean([np.isin(b[b > 0], a).mean() for a, b in pairs]))


def test_large_catalogues_get_the_approximate_index(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build_index(vectors).description == "exact"
    monkeypatch.setattr(serving.index, "EXACT_BELOW", 1_000)
    assert build_index(vectors).description == "PQ8x4fs,Refine(SQfp16)"
    assert build_index(vectors[:, :15]).description == "SQfp16"


@pytest.mark.parametrize("chunk", [1, 700, 5_999, 6_000, 9_999])
@pytest.mark.parametrize("blocked", [False, True])
def test_chunks_of_the_catalogue_find_what_the_whole_finds(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch, chunk: int, blocked: bool
) -> None:
    if chunk == 1:
        vectors, chunk = vectors[:40], 1
    num_items = len(vectors) - 1
    vectors = vectors.round(0).astype(np.float16)  # many ties, which item ids decide
    monkeypatch.setattr(serving.index, "SCORE_CHUNK", chunk)
    draw = np.random.default_rng(1)
    queries = draw.integers(-2, 3, (9, DIM)).astype(np.float32)
    histories = [draw.integers(1, num_items + 1, length).tolist() for length in range(9)]
    block = Block.of(Histories.of(histories), np.zeros(9, np.int64), num_items)
    deny = np.arange(3, num_items + 1, 2) if blocked else None
    policy = Policy.of(num_items, exclude_seen=True, allow=None, deny=deny)
    start = np.where(np.arange(num_items + 1) % 3, -1, 1)
    closed = replace(policy, window=Window(start, np.full(num_items + 1, 9)))  # a third is closed
    for one in (policy, closed):
        exact = ExactIndex(vectors).search(queries, block, one, 25)
        found = BlockedIndex(vectors).search(queries, block, one, 25)
        np.testing.assert_array_equal(found.items, exact.items)
        np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 40])
def test_what_the_approximate_index_finds(
    vectors: np.ndarray, approximate: ApproximateIndex, rows: int
) -> None:
    queries = RNG.standard_normal((rows, DIM)).astype(np.float32)
    block = block_of([RNG.integers(1, NUM_ITEMS + 1, 30).tolist() for _ in range(rows)])
    policy = Policy(exclude_seen=True)
    exact = ExactIndex(vectors).search(queries, block, policy, 50)
    found = approximate.search(queries, block, policy, 50)
    assert recall(found.items, exact.items) > 0.97
    for row, items in enumerate(found.items):
        assert len(set(items.tolist())) == 50
        assert not set(items.tolist()) & set(block.items[block.rows == row].tolist())
    scores = np.take_along_axis(queries @ vectors.T.astype(np.float32), found.items, axis=1)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-3, atol=1e-3)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_narrow_filters_and_long_answers_are_exact(
    vectors: np.ndarray, approximate: ApproximateIndex
) -> None:
    queries = RNG.standard_normal((3, DIM)).astype(np.float32)
    block = block_of([[5, 6], [7], []])
    allow = RNG.integers(1, NUM_ITEMS + 1, 40)
    narrow = Policy.of(NUM_ITEMS, exclude_seen=True, allow=allow, deny=np.array([8]))
    for policy, k in ((narrow, 10), (narrow, 60), (Policy(exclude_seen=True), NUM_ITEMS)):
        exact = ExactIndex(vectors).search(queries, block, policy, k)
        found = approximate.search(queries, block, policy, k)
        assert recall(found.items, exact.items) == 1
        np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-5, atol=1e-5)


def test_a_large_bundle_answers_nearly_like_exact_search(
    tmp_path: Path, make_toy: Callable, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = make_toy(tmp_path / "bundle", vectors=vectors[:3_001], sources=("model", "popularity"))
    monkeypatch.setattr(serving.index, "EXACT_BELOW", 100)
    recommender = Recommender.load(toy.path)
    lists = [RNG.integers(1, 3_001, 6).tolist() for _ in range(30)]
    exact = np.array([toy.best(history, 10) for history in lists])
    together = recommender.rank(Histories.of(lists), k=10, at=np.zeros(30, np.int64))
    assert recall(together.items, exact) > 0.97
    for row, history in enumerate(lists):
        answer = recommender.recommend([item * 10 for item in history])
        assert [item.item_id // 10 for item in answer.items] == together.items[row].tolist()
    similar = recommender.similar_items(70, k=5)
    assert len(similar.items) == 5
