"""Propensities are what the draws really do; the same request gets the same draws."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.encode import Histories
from serving.arrange import Arrangement
from serving.block import Block, Context
from serving.explore import EpsilonGreedy, ThompsonDraws, normal_below, probability_of_greatest
from serving.options import Options, seed_of
from serving.policy_spec import Epsilon, PolicySpec, Thompson
from serving.quotas import Limit
from serving.ranked import Ranked
from serving.recommender import Recommender

DRAWS = 20_000
ITEMS = np.array([[5, 3, 8, 1, 9, 2]])
SCORES = np.array([[1.0, 0.8, 0.7, 0.5, 0.2, 0.0]], np.float32)
EVENTS = np.array([0, 900, 0, 50, 0, 400, 0, 0, 10, 0], np.float32)
EXPLORERS = {
    "epsilon": EpsilonGreedy(Epsilon(share=0.3, pool=4, simulations=0)),
    "thompson": ThompsonDraws(Thompson(spread=0.5, pool=5), EVENTS),
}


def many(explorer: EpsilonGreedy | ThompsonDraws, k: int, **parts: tuple) -> Ranked:
    """The same list arranged for DRAWS requests."""
    rows = np.zeros(DRAWS, np.int64)
    seeds = np.arange(DRAWS, dtype=np.uint64)
    block = Block.of(Histories.of([[]] * DRAWS), rows, 9, Context(seeds=seeds))
    ranked = Ranked(ITEMS[rows], SCORES[rows], np.zeros((DRAWS, 6), np.uint8))
    return Arrangement(6, exploration=explorer, **parts).arrange(ranked, block, k)


@pytest.mark.parametrize("name", EXPLORERS)
def test_propensities_are_the_frequencies_of_the_first_place(name: str) -> None:
    found = many(EXPLORERS[name], 3)
    assert found.propensities is not None
    for item in np.unique(found.items[:, 0]):
        mine = found.items[:, 0] == item
        propensity = np.unique(found.propensities[mine, 0])
        assert len(propensity) == 1
        error = 4 * np.sqrt(propensity[0] * (1 - propensity[0]) / DRAWS)
        assert abs(mine.mean() - propensity[0]) < error + 1e-3
    assert len(np.unique(found.items[:, 0])) >= 4


@pytest.mark.parametrize("name", EXPLORERS)
def test_inverse_propensities_weigh_up_to_the_number_of_items(name: str) -> None:
    """The mean of 1 / p over lists is the number of lists that can come about: with the right
    propensities each item that can be first counts once, so the mean is their number."""
    found = many(EXPLORERS[name], 1)
    assert found.propensities is not None
    weights = 1 / found.propensities[:, 0].astype(np.float64)
    possible = len(np.unique(found.items[:, 0]))
    assert abs(weights.mean() - possible) < 5 * weights.std() / np.sqrt(DRAWS)


def test_later_places_are_conditional_on_those_above() -> None:
    found = many(EXPLORERS["epsilon"], 3)
    assert found.propensities is not None
    first, second = found.items[:, 0], found.items[:, 1]
    for above in np.unique(first):
        given = first == above
        best = next(item for item in ITEMS[0] if item != above)
        is_best = second[given] == best
        expected = 0.7 + 0.3 / 4  # four remain in the pool at every place
        np.testing.assert_allclose(np.unique(found.propensities[given, 1][is_best]), expected, 1e-6)
        assert abs(is_best.mean() - expected) < 5 * np.sqrt(expected / given.sum())


def test_quotas_hold_under_exploration() -> None:
    values = np.array([[0], [1], [1], [1], [1], [1], [1], [1], [2], [2]])
    found = many(EXPLORERS["epsilon"], 3, quotas=(Limit(values, 3, 1, 0, 3),))
    groups = np.sort(values[found.items][:, :2, 0], axis=1)
    assert (groups == [1, 2]).all()
    assert (found.items[:, 2] == 0).all()
    assert found.propensities is not None
    assert np.isnan(found.propensities[:, 2]).all()


def test_the_normal_distribution_function() -> None:
    from scipy.stats import norm

    x = np.linspace(-8, 8, 1001)
    np.testing.assert_allclose(normal_below(x), norm.cdf(x), atol=2e-7)


@pytest.mark.parametrize("narrow", [0.5, 0.05, 0.001])
def test_the_probability_of_the_greatest_sums_to_one(narrow: float) -> None:
    mean = np.array([[1.0, 0.9, 0.5, 0.0]])
    sd = np.array([[narrow, 0.3, narrow, 0.4]])
    parts = [probability_of_greatest(mean, sd, np.array([which]))[0] for which in range(4)]
    assert sum(parts) == pytest.approx(1, abs=5e-3)
    draws = np.random.default_rng(0).normal(mean, sd, (200_000, 4)).argmax(axis=1)
    np.testing.assert_allclose(np.bincount(draws, minlength=4) / 200_000, parts, atol=5e-3)


@pytest.mark.parametrize(
    "exploration", [Epsilon(share=0.5, pool=10), Thompson(spread=0.5, pool=10)]
)
def test_a_request_explores_by_its_name_alone(
    tmp_path: Path, make_toy: Callable, exploration: Epsilon | Thompson
) -> None:
    policy = PolicySpec(exploration=exploration)
    recommender = Recommender.load(make_toy(tmp_path / "bundle", policy=policy).path)
    plain = recommender.recommend([50, 90], k=8)
    assert {item.propensity for item in plain.items} == {1.0}
    lists = {}
    for name in ("a", "b", "c", "a"):
        answer = recommender.recommend([50, 90], k=8, options=Options(request_id=name))
        assert all(0 < item.propensity < 1 for item in answer.items)
        assert lists.setdefault(name, answer) == answer, "the same request, another answer"
    assert len({tuple(item.item_id for item in one.items) for one in lists.values()}) > 1
    seeds = np.array([seed_of(name) for name in ("a", "b", "c")], np.uint64)
    together = recommender.rank(
        Histories.of([[5, 9]] * 3),
        k=8,
        at=np.full(3, recommender.schema.cutoff),
        context=Context(seeds=seeds),
    )
    for row, name in enumerate(("a", "b", "c")):
        items = [item.item_id // 10 for item in lists[name].items]
        assert together.items[row].tolist() == items
        assert together.propensities is not None
        expected = [item.propensity for item in lists[name].items]
        np.testing.assert_allclose(together.propensities[row], expected, rtol=1e-6)
