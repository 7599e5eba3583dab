"""The ceiling is what it says: not beaten by what sees only the log, and reached by the law."""

import math

import numpy as np
import pytest

from data.ceiling import ceiling, oracle
from data.clicks import next_click
from data.config import Synthetic
from data.synthetic import World, make_world

CONFIG = Synthetic(num_users=2_000, num_items=400, clicks_per_user=30, seed=1)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(CONFIG)


def top_hit(scores: list[float], history: list[int], target: int) -> tuple[float, float]:
    """HR@10 and nDCG@10 by hand: all items minus the history, best first."""
    left = [item for item in range(len(scores)) if item not in history]
    best = sorted(left, key=lambda item: -scores[item])[:10]
    rank = best.index(target) + 1 if target in best else 0
    return (1.0, 1 / math.log2(rank + 1)) if rank else (0.0, 0.0)


def histories(world: World) -> list[list[int]]:
    ends = np.cumsum(world.clicks.counts)
    return [row.tolist() for row in np.split(world.clicks.item, ends[:-1])]


def test_realised_scores_equal_a_ranking_by_hand(world: World) -> None:
    users = np.array([0, 7, 19, 400])
    found = oracle(world.shop, world.people, world.clicks, users)
    items, days, counts = world.clicks.padded(users)
    for row, user in enumerate(users):
        clicks = histories(world)[user]
        day = days[row, [counts[row] - 1]]
        chances = next_click(
            world.shop, world.people, users[[row]], items[[row]], counts[[row]] - 1, day
        )[0]
        hit, gain = top_hit(chances.tolist(), clicks[:-1], clicks[-1])
        top = sorted(chances.tolist(), reverse=True)[:10]
        assert found[row, 0] == pytest.approx(sum(top))
        assert found[row, 1] == pytest.approx(
            sum(p / math.log2(rank + 1) for rank, p in enumerate(top, 1))
        )
        assert tuple(found[row, 2:4]) == pytest.approx((hit, gain))
        assert found[row, 4] == (world.shop.follow[clicks[-2], 0] >= 0)


def test_the_expectation_is_met_by_what_happens(world: World) -> None:
    """If the law were another than the clicks', the two would drift apart."""
    table = oracle(world.shop, world.people, world.clicks, np.arange(CONFIG.num_users))
    for expected, realised in ((0, 2), (1, 3)):
        error = (table[:, realised] - table[:, expected]).std() / math.sqrt(len(table))
        assert abs(table[:, realised].mean() - table[:, expected].mean()) < 3 * error


def baselines(world: World) -> dict[str, np.ndarray]:
    """Scores (U, N) of three models that see each user's clicks but the last."""
    size = len(world.shop.leaf)
    popularity, after = np.zeros(size), np.zeros((size, size))
    seen = np.zeros((CONFIG.num_users, size))
    for user, clicks in enumerate(histories(world)):
        np.add.at(popularity, clicks[:-1], 1)
        np.add.at(after, (clicks[:-2], clicks[1:-1]), 1)
        seen[user, clicks[:-1]] = 1
    together = seen.T @ seen
    similar = together / np.sqrt(np.outer(popularity, popularity) + 1)
    np.fill_diagonal(similar, 0)
    last = [clicks[-2] for clicks in histories(world)]
    markov = after / (after.sum(axis=1, keepdims=True) + 1) + 0.01 * popularity / popularity.sum()
    return {
        "popularity": np.tile(popularity, (CONFIG.num_users, 1)),
        "item-kNN": seen @ similar,
        "markov chain": markov[last],
    }


def test_models_that_see_only_the_log_stay_below_and_order_pays(world: World) -> None:
    best = ceiling(world.shop, world.people, world.clicks)["all"]
    found = {}
    for name, scores in baselines(world).items():
        rows = [
            top_hit(row, clicks[:-1], clicks[-1])
            for row, clicks in zip(scores.tolist(), histories(world), strict=True)
        ]
        found[name], gain = np.mean(rows, axis=0)
        assert found[name] < best["realised_hr@10"], name
        assert gain < best["realised_ndcg@10"], name
        assert found[name] < best["expected_hr@10"], name
    # learnable: the plainest sequence model comes within reach; a bag of clicks does not
    assert found["markov chain"] > 0.7 * best["realised_hr@10"]
    assert found["item-kNN"] < 0.5 * best["realised_hr@10"]
    assert found["popularity"] < found["item-kNN"]


def test_the_document_says_what_was_measured(world: World) -> None:
    content = ceiling(world.shop, world.people, world.clicks)
    ruled, free = content["last click has a follow-up"], content["last click has none"]
    assert content["all"]["cases"] == ruled["cases"] + free["cases"] == CONFIG.num_users
    assert ruled["expected_hr@10"] > content["all"]["expected_hr@10"] > free["expected_hr@10"]
    assert "last click of each user" in content["definition"]
