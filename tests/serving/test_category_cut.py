"""The candidate cut by predicted categories against a plain loop over the catalogue."""

import numpy as np
import pytest

from features.encode import Histories
from serving.block import Block
from serving.category_cut import CategoryCut
from serving.category_spec import CategoryCutSpec
from serving.errors import BundleError
from serving.policy import Policy

NUM_ITEMS, DIM, NUM_VALUES, K = 60, 8, 7, 6
SPEC = CategoryCutSpec(column="kind", share=0.2)


def codes(width: int, seed: int) -> np.ndarray:
    """Codes 0 (missing), 1 (unknown) and 2..8 of items 0..60."""
    draw = np.random.default_rng(seed)
    shape = (NUM_ITEMS + 1,) if width == 1 else (NUM_ITEMS + 1, width)
    table = draw.integers(0, NUM_VALUES + 2, shape).astype(np.int32)
    table[0] = 0
    return table


def expected(
    table: np.ndarray, vectors: np.ndarray, query: np.ndarray, logits: np.ndarray, gone: set[int]
) -> list[int]:
    """The best K by definition."""
    rows = table.reshape(len(table), -1)
    known = [set(row[row >= 2].tolist()) for row in rows]
    taken = {item for item in range(1, NUM_ITEMS + 1) if not known[item]}
    places = 0
    for value in np.argsort(-logits, kind="stable"):
        of_value = [item for item in range(1, NUM_ITEMS + 1) if value + 2 in known[item]]
        taken |= set(of_value)
        places += sum(int((rows[item] == value + 2).sum()) for item in of_value)
        if places >= round(SPEC.share * NUM_ITEMS):
            break
    scores = vectors.astype(np.float32) @ query
    return sorted(taken - gone, key=lambda item: (-scores[item], item))[:K]


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop_over_the_catalogue(width: int, seed: int) -> None:
    draw = np.random.default_rng(seed + 100)
    table = codes(width, seed)
    vectors = draw.integers(-3, 4, (NUM_ITEMS + 1, DIM)).astype(np.float16)  # ties occur
    cut = CategoryCut.of(SPEC, NUM_VALUES, {"kind": table}, vectors)
    queries = draw.integers(-3, 4, (5, DIM)).astype(np.float32)
    logits = draw.normal(size=(5, NUM_VALUES)).astype(np.float32)
    seen = [draw.integers(1, NUM_ITEMS + 1, 4).tolist() for _ in range(5)]
    deny = np.array([3, 4, 5])
    policy = Policy.of(NUM_ITEMS, exclude_seen=True, allow=None, deny=deny)
    block = Block.of(Histories.of(seen), np.zeros(5, np.int64), NUM_ITEMS)
    found = cut.search(queries, logits, block, policy, K)
    for row in range(5):
        gone = {*seen[row], *deny.tolist()}
        best = expected(table, vectors, queries[row], logits[row], gone)
        assert found.items[row][found.items[row] > 0].tolist() == best
        scores = vectors[best].astype(np.float32) @ queries[row]
        np.testing.assert_allclose(found.scores[row, : len(best)], scores)
        assert (found.scores[row, len(best) :] == -np.inf).all()


def test_candidates_are_a_part_of_the_catalogue_and_never_less_than_the_share() -> None:
    table = (2 + np.arange(NUM_ITEMS + 1) % NUM_VALUES).astype(np.int32)
    table[0] = 0
    cut = CategoryCut.of(SPEC, NUM_VALUES, {"kind": table}, np.zeros((NUM_ITEMS + 1, 2)))
    chosen = cut.chosen(np.array([0, 5, 0, 0, 4, 0, 0], np.float32))
    assert chosen.tolist() == [1, 3, 6]  # the unknown ones, then two of about 9 items each


def test_a_cut_that_does_not_fit_the_items_is_refused() -> None:
    vectors = np.zeros((NUM_ITEMS + 1, 2))
    with pytest.raises(BundleError, match="'kind'"):
        CategoryCut.of(SPEC, NUM_VALUES, {"brand": codes(1, 0)}, vectors)
    with pytest.raises(BundleError, match="predicts 3 values"):
        CategoryCut.of(SPEC, 3, {"kind": codes(1, 0)}, vectors)
