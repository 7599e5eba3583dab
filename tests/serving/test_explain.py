"""Explanations against what they claim: shares that add up, moves that happened."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.attribution import feature_shares
from serving.explain import Explained
from serving.manifest import TreeRankerSpec
from serving.options import Options
from serving.policy_spec import MMR, Freshness, PolicySpec, Quota
from serving.recommender import Recommender

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> tuple[Any, Recommender]:
    toy = make_toy(tmp_path_factory.mktemp("shop") / "bundle", attributes=True)
    return toy, Recommender.load(toy.path)


def test_the_answer_is_that_of_recommend(shop: tuple[Any, Recommender]) -> None:
    _, recommender = shop
    for history in ([], [50], [50, 90, 20], [999]):
        explained = recommender.explain(history, k=7)
        assert explained.answer == recommender.recommend(history, k=7)
        assert [one.item for one in explained.items] == list(explained.answer.items)
        assert [one.rank for one in explained.items] == list(range(1, 8))
        assert list(explained.ranked)[:7] == list(explained.answer.items)


def test_event_shares_of_a_sum_are_its_terms(shop: tuple[Any, Recommender]) -> None:
    """The toy's model adds up vectors, so leaving an event out loses exactly its product."""
    toy, recommender = shop
    history = [5, 9, 2, 9]
    exact = toy.vectors.astype(np.float64)
    for one in recommender.explain([item * 10 for item in history], k=5).items:
        assert one.item.source == "model"
        item = one.item.item_id // 10
        for event in one.events:
            assert event.item_id == history[event.place] * 10
            assert event.title == f"thing {event.item_id}"
            expected = exact[item] @ exact[history[event.place]]
            assert event.share == pytest.approx(expected, abs=1e-4)
        assert sum(event.share for event in one.events) == pytest.approx(one.item.score, abs=1e-4)
        sizes = [abs(event.share) for event in one.events]
        assert sizes == sorted(sizes, reverse=True)


def test_only_events_the_model_reads_can_carry(shop: tuple[Any, Recommender]) -> None:
    _, recommender = shop
    explained = recommender.explain([10 * (n % 60 + 1) for n in range(35)], k=3)
    for one in explained.items:
        assert one.events
        assert all(event.place >= 15 for event in one.events), "max_len is 20 of 35"


def test_neighbours_are_explained_by_their_votes(tmp_path: Path, make_toy: Callable) -> None:
    toy = make_toy(tmp_path / "bundle", sources=("item_knn", "popularity"))
    recommender = Recommender.load(toy.path)
    history = [4, 8, 4, 7]
    for one in recommender.explain([item * 10 for item in history], k=8).items:
        item = one.item.item_id // 10
        if one.item.source == "item_knn":
            votes = {event.place: event.share for event in one.events}
            assert votes == {
                place: pytest.approx(toy.votes[voter, item])
                for place, voter in ((0, 4), (1, 8), (3, 7))
                if toy.votes[voter, item]
            }
            assert sum(votes.values()) == pytest.approx(one.item.score)
        else:
            assert one.events == ()


def test_proposals_tell_rank_and_score_of_each_source(shop: tuple[Any, Recommender]) -> None:
    toy, recommender = shop
    explained = recommender.explain([50, 90], k=5)
    scores = toy.scores([5, 9])
    assert [item.item_id // 10 for item in explained.candidates["model"]] == toy.best([5, 9], 10)
    for place, one in enumerate(explained.items):
        by_source = {proposed.source: proposed for proposed in one.proposed}
        assert by_source["model"].rank == place + 1
        expected = scores[one.item.item_id // 10]
        assert by_source["model"].score == pytest.approx(expected, rel=1e-5)


def ranks_of(items: Any) -> dict[Any, int]:
    return {item.item_id: rank for rank, item in enumerate(items, 1)}


def test_moves_lead_from_the_ranked_list_to_the_answer(shop: tuple[Any, Recommender]) -> None:
    _, recommender = shop
    spec = PolicySpec(
        freshness=Freshness(column="released", weight=0.5),
        diversity=MMR(weight=0.6),
        quotas=(Quota(column="genre", at_most=2, within=6),),
        window=40,
    )

    def explain(policy: PolicySpec) -> Explained:
        return recommender.explain([50, 90], k=10, options=Options(policy=policy))

    explained = explain(spec)
    before = ranks_of(explained.ranked)
    partial = [
        explain(replace(spec, diversity=None, quotas=())),
        explain(replace(spec, quotas=())),
        explained,
    ]
    steps = [ranks_of(one.answer.items) for one in partial]
    moved = 0
    for one in explained.items:
        item = one.item.item_id
        ranks = [before[item], *(step.get(item) for step in steps)]
        names = ("freshness", "diversity", "quotas")
        expected = [
            (name, a, b)
            for name, a, b in zip(names, ranks, ranks[1:], strict=False)
            if None not in (a, b) and a != b
        ]
        found = [(move.rule, move.before, move.after) for move in one.moves]
        assert [move for move in found if move[1] <= 10 and move[2] <= 10] == [
            move for move in expected if move[1] <= 10
        ]
        moved += len(found)
        assert not one.moves or one.moves[-1].after == one.rank
    assert moved > 5
    assert recommender.explain([50, 90], k=10).items[0].moves == ()


def test_feature_shares_of_a_sum_are_exact_and_always_add_up() -> None:
    weights = RNG.standard_normal(6)
    rows, reference = RNG.random((4, 6)).astype(np.float32), RNG.random(6).astype(np.float32)
    shares = feature_shares(lambda x: (x @ weights).astype(np.float32), rows, reference)
    np.testing.assert_allclose(shares, (rows - reference) * weights, atol=1e-5)

    def tangled(x: np.ndarray) -> np.ndarray:
        return (x[:, 0] * x[:, 1] + np.maximum(x[:, 2], x[:, 3]) + x[:, 4] ** 2).astype(np.float32)

    shares = feature_shares(tangled, rows, reference)
    np.testing.assert_allclose(
        shares.sum(axis=1), tangled(rows) - tangled(reference[None]), atol=1e-5
    )
    np.testing.assert_allclose(shares[:, 5], 0, atol=1e-7)
    product = (rows[:, 0] - reference[0]) * (rows[:, 1] + reference[1]) / 2  # exact by pairs
    np.testing.assert_allclose(shares[:, 0], product, atol=1e-5)


def test_the_features_of_a_tree_ranker_are_named_and_add_up() -> None:
    recommender = Recommender.load(Path(__file__).parents[1] / "bundles" / "v1")
    history = [recommender.parse_item_id(name) for name in ("P00044", "P00087", "P00001")]
    explained = recommender.explain(history, k=5)
    assert isinstance(recommender.manifest.ranker, TreeRankerSpec)
    names = set(recommender.manifest.ranker.features)
    for one in explained.items:
        assert one.features
        assert {share.name for share in one.features} <= names
    sums = [sum(share.share for share in one.features) for one in explained.items]
    scores = [one.item.score for one in explained.items]
    np.testing.assert_allclose(np.diff(sums), np.diff(scores), atol=1e-4)
