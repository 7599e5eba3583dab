"""How sources and ranker are put together, with a ranker whose order is known."""

from typing import Any, cast

import numpy as np
import pytest

from features.encode import Histories
from serving.block import Block
from serving.candidates import Candidates, Proposals, unite
from serving.pipeline import Pipeline
from serving.policy import Policy
from serving.ranker import Ranker
from serving.recommender import Recommender


class ByItem:
    """Ranks by item id, greatest first; even items all alike."""

    def score(self, block: Block, candidates: Candidates) -> np.ndarray:
        scores = np.where(candidates.items % 2, candidates.items, 0).astype(np.float32)
        return np.where(candidates.items == 0, np.float32(-np.inf), scores)


@pytest.fixture(scope="module")
def recommender(toy: Any) -> Recommender:
    return Recommender.load(toy.path)


@pytest.fixture(scope="module")
def ranked(recommender: Recommender) -> Pipeline:
    ranker = cast("Ranker", ByItem())
    return Pipeline(recommender.pipeline.sources, ranker, recommender.num_items, 1)


POLICY = Policy(exclude_seen=True)
AT = np.zeros(3, np.int64)
HISTORIES = Histories.of([[4, 8], [], [9]])


def test_the_ranked_part_comes_first_then_retrieval_order(
    recommender: Recommender, ranked: Pipeline
) -> None:
    candidates = ranked.candidates(HISTORIES, AT, POLICY)
    plain = recommender.rank(HISTORIES, k=60, at=AT)
    for k in (1, 5, 10, 30, 60, 65):
        found = ranked.rank(HISTORIES, AT, POLICY, k)
        for row in (0, 2):
            proposed = [item for item in candidates.items[row].tolist() if item]
            order = sorted(proposed, key=lambda item: -item if item % 2 else 0)
            rest = [item for item in plain.items[row].tolist() if item and item not in proposed]
            expected = [*order, *rest][:k]
            assert found.items[row].tolist() == expected + [0] * (k - len(expected))
            sources = dict(zip(candidates.items[row], candidates.sources[row], strict=True))
            assert [sources[item] for item in order[:k]] == found.sources[row][
                : len(order[:k])
            ].tolist()


def test_a_history_without_events_is_not_ranked(recommender: Recommender, ranked: Pipeline) -> None:
    for k in (5, 10, 60):
        found = ranked.rank(HISTORIES, AT, POLICY, k)
        plain = recommender.rank(HISTORIES, k=k, at=AT)
        assert found.items[1].tolist() == plain.items[1].tolist()
        alone = ranked.rank(HISTORIES.take(slice(1, 2)), AT[:1], POLICY, k)
        assert alone.items[0].tolist() == plain.items[1].tolist()


def test_a_batch_is_ranked_like_its_rows_alone(ranked: Pipeline) -> None:
    for k in (3, 25, 60):
        together = ranked.rank(HISTORIES, AT, POLICY, k)
        for row in range(3):
            alone = ranked.rank(HISTORIES.take(slice(row, row + 1)), AT[:1], POLICY, k)
            np.testing.assert_array_equal(alone.items[0], together.items[row])
            np.testing.assert_array_equal(alone.sources[0], together.sources[row])


def test_the_union_against_its_definition() -> None:
    rng = np.random.default_rng(1)
    names = ("a", "b", "c")
    for _ in range(50):
        proposals = []
        for width in rng.integers(0, 8, 3):
            items = np.stack([rng.permutation(9)[:width] for _ in range(4)]).astype(np.int64)
            proposals.append(Proposals(items, rng.random((4, width)).astype(np.float32)))
        found = unite(names, proposals)
        for row in range(4):
            expected: dict[int, dict[str, float]] = {}
            for name, one in zip(names, proposals, strict=True):
                for item, score in zip(one.items[row], one.scores[row], strict=True):
                    if item:
                        expected.setdefault(int(item), {})[name] = float(score)
            items = found.items[row][found.items[row] > 0].tolist()
            assert items == list(expected)
            for column, item in enumerate(items):
                first = next(iter(expected[item]))
                assert names[found.sources[row, column]] == first
                assert found.scores[row, column] == np.float32(expected[item][first])
                for name in names:
                    value = found.source_scores[name][row, column]
                    assert (
                        np.isnan(value)
                        if name not in expected[item]
                        else value == np.float32(expected[item][name])
                    )
