"""Recommendations against the same thing computed with numpy from the bundle's own numbers."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encode import Histories
from serving.errors import RequestError
from serving.recommender import Recommender

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def recommender(toy: Any) -> Recommender:
    return Recommender.load(toy.path)


def raw(items: list[int]) -> list[int]:
    return [item * 10 for item in items]


def random_histories(count: int, num_items: int, longest: int = 15) -> list[list[int]]:
    lengths = RNG.integers(1, longest, count)
    return [RNG.integers(1, num_items + 1, length).tolist() for length in lengths]


def test_the_answer_is_the_exact_top_k_of_the_model(toy: Any, recommender: Recommender) -> None:
    for history in random_histories(50, toy.num_items):
        answer = recommender.recommend(raw(history), k=10)
        assert [item.item_id for item in answer.items] == raw(toy.best(history, 10))
        scores = toy.scores(history)
        expected = scores[toy.best(history, 10)]
        np.testing.assert_allclose([item.score for item in answer.items], expected, rtol=1e-5)
        assert {item.source for item in answer.items} == {"model"}
        assert answer.degraded == ()
        assert answer.bundle_version == recommender.bundle_version


def test_only_the_most_recent_events_are_encoded_but_all_are_seen(
    toy: Any, recommender: Recommender
) -> None:
    history = [*range(1, 31)]
    answer = recommender.recommend(raw(history), k=toy.num_items)
    found = [item.item_id // 10 for item in answer.items]
    scores = toy.scores(history[-20:])
    expected = sorted(range(31, 61), key=lambda item: -scores[item])
    assert found == expected


def test_titles_and_columns_come_from_the_catalogue(recommender: Recommender) -> None:
    item = recommender.recommend([10], k=1).items[0]
    assert item.title == f"thing {item.item_id}"
    assert dict(item.columns) == {"item_id": item.item_id, "title": item.title}
    assert recommender.title(20) == "thing 20"
    assert recommender.title(25) is None


def test_a_new_user_gets_what_is_popular_and_is_told_so(toy: Any, recommender: Recommender) -> None:
    order = np.lexsort((np.arange(61), -toy.popularity))
    popular = [int(item) * 10 for item in order if item][:5]
    for history, reason in (([], "no_history"), ([7, 999], "unknown_items")):
        answer = recommender.recommend(history, k=5)
        assert [item.item_id for item in answer.items] == popular
        assert answer.degraded == (reason,)
        assert {item.source for item in answer.items} == {"popularity"}
        assert answer.unknown == len(history)


def test_unknown_items_among_known_ones_are_left_out_and_counted(recommender: Recommender) -> None:
    mixed = recommender.recommend([10, 11, 20])
    assert mixed.items == recommender.recommend([10, 20]).items
    assert (mixed.unknown, mixed.degraded) == (1, ())


def test_seen_items_return_when_asked_for(toy: Any, recommender: Recommender) -> None:
    history = [5, 9]
    everything = recommender.recommend(raw(history), k=60, exclude_seen=False)
    scores = toy.scores(history)
    assert [item.item_id for item in everything.items] == [
        int(item) * 10 for item in np.argsort(-scores, kind="stable")[:60]
    ]


@settings(max_examples=40, deadline=None)
@given(
    history=st.lists(st.integers(1, 60), max_size=25),
    allow=st.none() | st.lists(st.integers(1, 60), min_size=1, max_size=20),
    deny=st.none() | st.lists(st.integers(1, 60), max_size=60),
    k=st.integers(1, 70),
)
def test_filters_hold_for_every_request(
    recommender: Recommender,
    history: list[int],
    allow: list[int] | None,
    deny: list[int] | None,
    k: int,
) -> None:
    answer = recommender.recommend(
        raw(history), k=k, allow=allow and raw(allow), deny=deny and raw(deny)
    )
    found = [item.item_id // 10 for item in answer.items]
    wanted = (set(allow) if allow else set(range(1, 61))) - set(deny or []) - set(history)
    assert len(found) == len(set(found)) == min(k, len(wanted))
    assert set(found) <= wanted


def test_an_empty_allow_list_allows_nothing(recommender: Recommender) -> None:
    assert recommender.recommend([10], allow=[]).items == ()
    assert recommender.recommend([], allow=[]).items == ()


def test_a_batch_is_answered_like_its_rows_alone(toy: Any) -> None:
    batch = Recommender.load(toy.path, threads=2)
    lists = [*random_histories(300, toy.num_items), [], list(range(1, 61)), [3] * 50]
    at = np.zeros(len(lists), np.int64)
    for k in (1, 10, 60, 70):
        together = batch.rank(Histories.of(lists), k=k, at=at)
        assert together.items.shape == (len(lists), k)
        for row, history in enumerate(lists):
            alone = batch.rank(Histories.of([history]), k=k, at=at[:1])
            np.testing.assert_array_equal(together.items[row], alone.items[0])
            np.testing.assert_array_equal(together.sources[row], alone.sources[0])
            np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5, atol=1e-5)


def test_asking_for_all_items_orders_all_that_are_unseen(
    toy: Any, recommender: Recommender
) -> None:
    lists = [*random_histories(20, 60), []]
    found = recommender.rank(Histories.of(lists), k=60, at=np.zeros(21, np.int64))
    for row, history in zip(found.items, lists, strict=True):
        unseen = sorted(set(range(1, 61)) - set(history))
        assert sorted(row[row > 0].tolist()) == unseen
        assert not row[len(unseen) :].any()


def test_a_frame_is_answered_like_each_user_alone(toy: Any, recommender: Recommender) -> None:
    lists = random_histories(30, toy.num_items)
    rows = [
        (f"user {number}", item * 10, time)
        for number, history in enumerate(lists)
        for time, item in enumerate(history)
    ]
    rows += [("stranger", 7, 0)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    shuffled = frame.sample(fraction=1, shuffle=True, seed=0).sort("timestamp", maintain_order=True)
    answer = recommender.recommend_many(shuffled, k=7)
    assert answer.columns == ["user_id", "rank", "item_id", "score", "source"]
    for number, history in enumerate(lists):
        mine = answer.filter(pl.col("user_id") == f"user {number}")
        alone = recommender.recommend(raw(history), k=7)
        assert mine["item_id"].to_list() == [item.item_id for item in alone.items]
        assert mine["rank"].to_list() == list(range(1, 8))
    stranger = answer.filter(pl.col("user_id") == "stranger")
    assert set(stranger["source"]) == {"popularity"}
    assert (
        shuffled["user_id"]
        .unique(maintain_order=True)
        .equals(answer["user_id"].unique(maintain_order=True))
    )


def test_ties_are_decided_by_item_id(tmp_path: Path, make_toy: Callable) -> None:
    vectors = np.repeat(RNG.standard_normal((3, 8)), 20, axis=0).astype(np.float16)
    toy = make_toy(
        tmp_path / "bundle", vectors=np.concatenate([np.zeros((1, 8)), vectors]).astype(np.float16)
    )
    recommender = Recommender.load(toy.path)
    for history in ([1], [25, 50], [3, 3, 41]):
        for k in (1, 5, 19, 20, 21, 60):
            answer = recommender.recommend(raw(history), k=k)
            assert [item.item_id for item in answer.items] == raw(toy.best(history, k))
            lists = Histories.of([history] * 3)
            many = recommender.rank(lists, k=k, at=np.zeros(3, np.int64))
            assert many.items[1, : len(answer.items)].tolist() == toy.best(history, k)


def test_similar_items_have_the_greatest_cosine(toy: Any, recommender: Recommender) -> None:
    vectors = toy.vectors.astype(np.float64)
    cosine = vectors[1:] @ vectors[7] / np.linalg.norm(vectors[1:], axis=1)
    cosine[6] = -np.inf
    expected = (np.argsort(-cosine)[:5] + 1) * 10
    answer = recommender.similar_items(70, k=5)
    assert [item.item_id for item in answer.items] == expected.tolist()
    with pytest.raises(RequestError, match="item 71 is not among the 60"):
        recommender.similar_items(71)


def test_neighbours_vote_for_the_history(tmp_path: Path, make_toy: Callable) -> None:
    toy = make_toy(tmp_path / "bundle", sources=("item_knn", "popularity"))
    recommender = Recommender.load(toy.path)
    for history in random_histories(30, toy.num_items, longest=6):
        votes = toy.votes[sorted(set(history))].sum(axis=0)
        votes[history] = 0
        voted = [int(item) * 10 for item in np.argsort(-votes, kind="stable") if votes[item] > 0]
        answer = recommender.recommend(raw(history), k=60)
        by_votes = [item.item_id for item in answer.items if item.source == "item_knn"]
        assert by_votes == voted
        assert [item.source for item in answer.items][len(voted) :] == ["popularity"] * (
            60 - len(set(history)) - len(voted)
        )


def test_a_model_that_gives_nan_is_passed_over(tmp_path: Path, make_toy: Callable) -> None:
    toy = make_toy(tmp_path / "bundle", sources=("model", "popularity"), poisoned=7)
    recommender = Recommender.load(toy.path)
    answer = recommender.recommend([10, 70], k=5)
    assert {item.source for item in answer.items} == {"popularity"}
    assert answer.degraded == ("no_candidates",)
    lists = [[1, 7], [1, 2]]
    found = recommender.rank(Histories.of(lists), k=5, at=np.zeros(2, np.int64))
    assert found.sources.tolist() == [[1] * 5, [0] * 5]
    assert found.items[1].tolist() == toy.best([1, 2], 5)


def test_many_threads_get_the_answers_of_one(toy: Any, recommender: Recommender) -> None:
    lists = random_histories(40, toy.num_items)
    expected = [recommender.recommend(raw(history)) for history in lists]
    found: dict[int, list] = {}

    def work(number: int) -> None:
        found[number] = [recommender.recommend(raw(history)) for history in lists]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == expected for number in range(4))


def test_dense_ids_out_of_range_never_reach_the_graph(recommender: Recommender) -> None:
    for wrong in (-1, 0, 61):
        for lists in ([[1, wrong]], [[1], [wrong, 2]]):
            with pytest.raises(RequestError, match=r"1 item ids outside 1\.\.60"):
                recommender.rank(Histories.of(lists), k=5, at=np.zeros(len(lists), np.int64))


def test_candidates_carry_the_score_of_every_proposer(toy: Any, recommender: Recommender) -> None:
    history = [4, 8]
    found = recommender.candidates(Histories.of([history, []]), at=np.zeros(2, np.int64))
    items = found.items[0][found.items[0] > 0]
    assert items[:10].tolist() == toy.best(history, 10)
    assert len(set(items.tolist())) == len(items)
    votes = toy.votes[history].sum(axis=0)
    by_knn = found.source_scores["item_knn"][0, : len(items)]
    proposed = np.argsort(-votes, kind="stable")[:10]
    proposed = {int(item) for item in proposed if votes[item] > 0 and item not in history}
    assert {int(item) for item, score in zip(items, by_knn, strict=True) if score > 0} == proposed
    np.testing.assert_allclose(
        by_knn[~np.isnan(by_knn)], votes[items[~np.isnan(by_knn)]], rtol=1e-6
    )
    popular = found.source_scores["popularity"][0, : len(items)]
    np.testing.assert_array_equal(
        popular[~np.isnan(popular)], toy.popularity[items[~np.isnan(popular)]]
    )
    assert np.isnan(found.source_scores["model"][1]).all()
    assert (found.items[1] > 0).sum() == 10
