"""The chance before drawing is the frequency over many requests, and with it estimates of another
policy are right where chances given the items above are not.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from features.encode import Histories
from offline_eval.off_policy import Logged, evaluate_policy
from serving.arrange import Arrangement, Diversity
from serving.block import Block, Context
from serving.explore import EpsilonGreedy
from serving.policy_spec import Epsilon
from serving.quotas import Limit
from serving.ranked import Ranked
from serving.similarity import ValueSimilarity

REQUESTS, PLACES = 3_000, 4
ITEMS = np.array([[5, 3, 8, 1, 9, 2, 7, 4]])
SCORES = np.array([[1.0, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.0]], np.float32)
KINDS = np.array([[0], [1], [2], [1], [1], [2], [2], [1], [2], [1]])
EPSILON = Epsilon(share=0.6, pool=6, simulations=48)


def arranged(**parts: object) -> Ranked:
    """One list arranged for REQUESTS requests."""
    rows = np.zeros(REQUESTS, np.int64)
    seeds = np.arange(REQUESTS, dtype=np.uint64)
    block = Block.of(Histories.of([[]] * REQUESTS), rows, 9, Context(seeds=seeds))
    ranked = Ranked(ITEMS[rows], SCORES[rows], np.zeros((REQUESTS, 8), np.uint8))
    explorer = EpsilonGreedy(EPSILON)
    return Arrangement(8, exploration=explorer, **parts).arrange(ranked, block, PLACES)  # type: ignore


PARTS = {
    "alone": {},
    "with a quota": {"quotas": (Limit(KINDS, 3, at_most=2, at_least=0, within=4),)},
    "with diversity": {"diversity": Diversity("mmr", 0.5, ValueSimilarity(KINDS))},
}


@pytest.mark.parametrize("name", PARTS)
def test_marginals_are_the_frequencies_of_every_place(name: str) -> None:
    found = arranged(**PARTS[name])
    assert found.marginals is not None
    assert found.propensities is not None
    np.testing.assert_array_equal(found.marginals[:, 0], found.propensities[:, 0])
    for place in range(PLACES):
        for item in np.unique(found.items[:, place]):
            mine = found.items[:, place] == item
            told, frequency = found.marginals[mine, place], mine.mean()
            noise = 4 * np.sqrt(frequency / REQUESTS)
            assert abs(told.mean() - frequency) < noise + 0.05 * frequency, (place, item)
            assert (told > 0).all()
            assert (told <= 1).all()


def rewards() -> NDArray[np.float64]:
    """(items, places): what an item earns at a place."""
    earned = np.random.default_rng(3).random((10, PLACES))
    return earned * np.array([1.0, 0.7, 0.5, 0.4])


def estimate(found: Ranked, chances: NDArray, target: list[int]) -> tuple[float, float, float]:
    """IPS of the policy that always answers `target`, with its interval."""
    rng = np.random.default_rng(4)
    places = np.broadcast_to(np.arange(PLACES), found.items.shape)
    reward = (rng.random(found.items.shape) < rewards()[found.items, places]).astype(float)
    shown = (found.items == np.array(target)).astype(float)
    log = Logged(
        request=np.repeat(np.arange(REQUESTS), PLACES),
        user=np.arange(REQUESTS),
        reward=reward.ravel(),
        propensity=chances.ravel().astype(np.float64),
        target=shown.ravel(),
        predicted=np.zeros(reward.size),
        planned=np.zeros(REQUESTS),
        filled=np.full(REQUESTS, float(PLACES)),
        absent=0.0,
    )
    ips = evaluate_policy(log, resamples=400).ips
    return ips.value, ips.low, ips.high


def test_estimates_by_marginals_find_the_known_truth() -> None:
    """The other policy shows last what the logged one mostly shows first."""
    found = arranged()
    assert found.marginals is not None
    assert found.propensities is not None
    target = [3, 8, 1, 5]
    truth = float(rewards()[target, range(PLACES)].sum())
    value, low, high = estimate(found, found.marginals, target)
    assert low < truth < high
    assert abs(value - truth) < 0.1 * truth
    _, _, high = estimate(found, found.propensities, target)
    assert high < truth, "chances given the items above miss what already stands there"
