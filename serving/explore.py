"""Places given by chance, and the probability of what was chosen: the input of off-policy
evaluation.

Two chances are told of each place. `propensity` is that of the item *given the items above it*;
the product over a list is the probability of the list. `marginal` is that of the item at its place
*before anything is drawn*, which estimates under the item-position model divide by: the mean of
the former over many lists that might have been (drawn besides, Rao-Blackwell), the list itself
among them. At the first place the two are one. The draws follow from the request's seed and the
policy's, so that the same request gets the same answer and both can be recomputed.

Shape suffixes: B lists, N items of the window, P items of the pool, X points of a grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from serving.policy_spec import Epsilon, Thompson
from serving.topk import Floats, Ints

Doubles = NDArray[np.float64]
STEPS = np.linspace(-4, 4, 17)
"""Points, in standard deviations of each item, at which an integral is evaluated."""
Draw = Callable[[np.random.Generator], NDArray[np.float64]]
NO_CHANCE = -1e30
BESIDES = 1 << 62
"""Tells the draws of lists that might have been from those of the list."""


def pool_of(gain_BN: Floats, pool: int) -> Ints:
    """(B, P) the places with the greatest gain, best first; those of -inf come last."""
    return np.argsort(-gain_BN, axis=1, kind="stable")[:, :pool]


@dataclass(frozen=True)
class EpsilonGreedy:
    """The best, or with probability `share` any of the pool."""

    spec: Epsilon

    def draws(self, seeds_B: NDArray[np.uint64], places: int) -> Doubles:
        """(B, places, 2) uniform numbers."""
        return _draws(seeds_B, self.spec.seed, lambda rng: rng.random((places, 2)))

    @property
    def simulations(self) -> int:
        """Lists drawn besides."""
        return self.spec.simulations

    def simulated(self, seeds_B: NDArray[np.uint64], places: int) -> Doubles:
        """(B, simulations, places, 2) uniform numbers, of other lists."""
        size = (self.spec.simulations, places, 2)
        other = self.spec.seed ^ BESIDES
        return _draws(seeds_B, other, lambda rng: rng.random(size))

    def chance_of(self, gain_BN: Floats, which_B: Ints) -> Doubles:
        """Probability of a place of the window; 0 where it cannot be picked."""
        own_B1 = np.take_along_axis(gain_BN, which_B[:, None], axis=1)
        before_BN = gain_BN > own_B1  # equal gains: the earlier first, as in `pool_of`
        before_BN |= (gain_BN == own_B1) & (np.arange(gain_BN.shape[1]) < which_B[:, None])
        rank_B = before_BN.sum(axis=1)
        sizes_B = np.minimum(np.isfinite(gain_BN).sum(axis=1), self.spec.pool)
        chance_B = self.spec.share / np.maximum(sizes_B, 1) + (rank_B == 0) * (1 - self.spec.share)
        return np.where(np.isfinite(own_B1[:, 0]) & (rank_B < sizes_B), chance_B, 0.0)

    def pick(self, gain_BN: Floats, draws_B: Doubles, items_BN: Ints) -> tuple[Ints, Doubles]:
        """Chosen place of each row and its probability."""
        pool_BP = pool_of(gain_BN, self.spec.pool)
        sizes_B = np.isfinite(np.take_along_axis(gain_BN, pool_BP, axis=1)).sum(axis=1)
        sizes_B = np.maximum(sizes_B, 1)
        chance_B = draws_B[:, 0] < self.spec.share
        drawn_B = np.minimum((draws_B[:, 1] * sizes_B).astype(np.int64), sizes_B - 1)
        rank_B = np.where(chance_B, drawn_B, 0)
        probability_B = self.spec.share / sizes_B + (rank_B == 0) * (1 - self.spec.share)
        return pool_BP[np.arange(len(pool_BP)), rank_B], probability_B


@dataclass(frozen=True)
class ThompsonDraws:
    """The greatest of independent normal draws, one an item and place."""

    spec: Thompson
    events: Floats
    """(V,) how many events are known of each item."""
    simulations = 0
    """Its chances cost too much to be told of many lists: only those of first places are."""

    def simulated(self, seeds_B: NDArray[np.uint64], places: int) -> Doubles:
        """None are drawn."""
        raise NotImplementedError

    def chance_of(self, gain_BN: Floats, which_B: Ints) -> Doubles:
        """None are drawn."""
        raise NotImplementedError

    def draws(self, seeds_B: NDArray[np.uint64], places: int) -> Doubles:
        """(B, places, P) standard normal numbers."""
        size = (places, self.spec.pool)
        return _draws(seeds_B, self.spec.seed, partial(_normal, size=size))

    def pick(self, gain_BN: Floats, draws_B: Doubles, items_BN: Ints) -> tuple[Ints, Doubles]:
        """Chosen place of each row and its probability."""
        pool_BP = pool_of(gain_BN, self.spec.pool)
        mean_BP = np.take_along_axis(gain_BN, pool_BP, axis=1).astype(np.float64)
        mean_BP = np.where(np.isfinite(mean_BP), mean_BP, NO_CHANCE)
        events_BP = self.events[np.take_along_axis(items_BN, pool_BP, axis=1)]
        sd_BP = self.spec.spread / np.sqrt(1 + np.maximum(events_BP, 0) / self.spec.prior)
        drawn_BP = mean_BP + sd_BP * draws_B[:, : pool_BP.shape[1]]
        rank_B = np.argmax(drawn_BP, axis=1)
        picks_B = pool_BP[np.arange(len(pool_BP)), rank_B]
        return picks_B, probability_of_greatest(mean_BP, sd_BP, rank_B)


def probability_of_greatest(mean_BP: Doubles, sd_BP: Doubles, which_B: Ints) -> Doubles:
    """That a draw from Normal(mean, sd) of `which` exceeds those of all others of its row.

    The integral of the product of the others' distribution functions over the distribution of
    `which`, by the trapezoidal rule on a grid as fine as the narrowest distribution near it.
    """
    rows = np.arange(len(mean_BP))
    grid_BX = (mean_BP[:, :, None] + sd_BP[:, :, None] * STEPS).reshape(len(mean_BP), -1)
    mean_B1, sd_B1 = mean_BP[rows, which_B][:, None], sd_BP[rows, which_B][:, None]
    grid_BX = np.sort(np.clip(grid_BX, mean_B1 - 5 * sd_B1, mean_B1 + 5 * sd_B1), axis=1)
    below_BXP = normal_below((grid_BX[:, :, None] - mean_BP[:, None, :]) / sd_BP[:, None, :])
    own_BX = below_BXP[rows, :, which_B]
    below_BXP[rows, :, which_B] = 1
    others_BX = below_BXP.prod(axis=2)
    middle_BX = (others_BX[:, 1:] + others_BX[:, :-1]) / 2
    inside_B = (np.diff(own_BX, axis=1) * middle_BX).sum(axis=1)
    return inside_B + own_BX[:, 0] * others_BX[:, 0] + (1 - own_BX[:, -1]) * others_BX[:, -1]


def normal_below(x: Doubles) -> Doubles:
    """Distribution function of the standard normal, to 1e-7 (Abramowitz & Stegun 7.1.26)."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = (
        (((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592
    ) * t
    tail = series * np.exp(-np.minimum(z * z, 700)) / 2
    return np.where(x > 0, 1 - tail, tail)


def _normal(rng: np.random.Generator, size: tuple[int, int]) -> Doubles:
    return rng.standard_normal(size)


def _draws(seeds_B: NDArray[np.uint64], seed: int, draw: Draw) -> Doubles:
    rngs = (
        np.random.Generator(np.random.Philox(key=np.array([one, seed], np.uint64)))
        for one in seeds_B
    )
    return np.stack([draw(rng) for rng in rngs])
