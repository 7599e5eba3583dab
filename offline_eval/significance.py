"""Means over users with intervals, and whether two systems differ. Seeded, vectorised.

The bootstrap weighs users instead of drawing them: weight w_u with mean 1 and variance 1, so that
a resampled mean is sum(w * x) / sum(w) (exchangeable weights, Præstgaard & Wellner, Ann. Prob.
1993; with Poisson(1) weights this is the Poisson bootstrap). Resamples are then rows of a matrix
product, and the same seed gives two systems the same resamples: the comparison is paired.

Shape suffixes: U users, S resamples, M metrics.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_eval.metrics import Bools, Floats, Ints

LEVEL = 0.95
"""Confidence of every interval here."""
BLOCK = 1 << 13
"""Users weighed at a time: bounds memory at S x BLOCK floats."""
WEIGHTS = np.repeat(np.arange(6), (94, 95, 46, 16, 4, 1)).astype(np.float32)
"""Weight by random byte: Poisson(1) to 1/256, with mean and variance exactly 1."""
EDGES = np.flatnonzero(np.diff(WEIGHTS)).astype(np.uint8) + 1
"""Bytes at which the weight goes up by 1: comparing is twice as fast as looking up."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with its 95 % interval."""

    value: float
    low: float
    high: float
    defined: int
    """Users the mean is over."""
    undefined: int
    """Users left out because the metric has no value (nan) for them."""


def single_figure(value: float) -> Estimate:
    """A figure of all users together that has no interval here."""
    return Estimate(value, math.nan, math.nan, 0, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean paired difference, first system minus second, with its 95 % interval."""

    value: float
    low: float
    high: float
    users: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`: which side of 0 the interval lies on."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not distinguishable"


def normal_interval(value: float, standard_error: float) -> tuple[float, float]:
    """The 95 % interval of a normal distribution."""
    half = 1.959963984540054 * standard_error
    return value - half, value + half


def resampled_means(
    values_UM: Floats, resamples: int, seed: int, owners_U: Ints | None = None
) -> NDArray[np.float64]:
    """Bootstrap means over users, (S, M). nan values take no part; no defined user gives nan.

    owners_U: equal numbers, next to each other, are cases of one user, and drawn together.
    """
    defined_UM = ~np.isnan(values_UM)
    masks_UD, mask_M = _distinct_columns(defined_UM)
    known_UC = np.concatenate([np.where(defined_UM, values_UM, 0.0), masks_UD], axis=1)
    if owners_U is not None:
        known_UC = np.add.reduceat(known_UC, first_of_each(owners_U))
    known_UC = known_UC.astype(np.float32)
    stream = np.random.SFC64(seed)
    totals_SC = np.zeros((resamples, known_UC.shape[1]))
    for start in range(0, len(known_UC), BLOCK):
        part_UC = known_UC[start : start + BLOCK]
        weights = draw_weights(stream, resamples * len(part_UC))
        totals_SC += weights.reshape(resamples, len(part_UC)) @ part_UC
    sums_SM, weights_SD = np.split(totals_SC, [values_UM.shape[1]], axis=1)
    weights_SM = weights_SD[:, mask_M]
    means_SM = np.full_like(sums_SM, np.nan)
    np.divide(sums_SM, weights_SM, out=means_SM, where=weights_SM > 0)
    return means_SM


def draw_weights(stream: np.random.SFC64, count: int) -> NDArray[np.float32]:
    """The next `count` weights: `WEIGHTS` of a random byte each."""
    raw = stream.random_raw(-(-count // 8)).view(np.uint8)[:count]
    weights = np.zeros(count, np.uint8)
    for edge in EDGES:
        weights += raw >= edge
    return weights.astype(np.float32)


def _distinct_columns(flags_UM: Bools) -> tuple[Bools, list[int]]:
    """The different columns, (U, D), and which of them each of the M columns is."""
    distinct: list[Bools] = []
    which: list[int] = []
    for flags_U in flags_UM.T:
        same = [d for d, known in enumerate(distinct) if np.array_equal(known, flags_U)]
        if not same:
            distinct.append(flags_U)
        which.append(same[0] if same else len(distinct) - 1)
    return np.stack(distinct, axis=1), which


def first_of_each(owners_U: Ints) -> Ints:
    """Places where a run of equal numbers begins.

    >>> first_of_each(np.array([7, 7, 2, 3, 3])).tolist()
    [0, 2, 3]
    """
    return np.flatnonzero(np.append(True, np.diff(owners_U) != 0)[: len(owners_U)])


def per_owner(values_U: Floats, owners_U: Ints) -> Floats:
    """One value an owner of several cases, whose mean over owners is the mean over all cases.

    An owner's sum over the defined cases, divided by the mean number of these; nan without any.

    >>> per_owner(np.array([1.0, 0.0, 0.5]), np.array([4, 4, 6])).tolist()
    [0.6666666666666666, 0.3333333333333333]
    """
    starts = first_of_each(owners_U)
    if len(starts) == len(owners_U):
        return values_U
    defined = np.add.reduceat((~np.isnan(values_U)).astype(np.float64), starts)
    sums = np.add.reduceat(np.nan_to_num(values_U.astype(np.float64), nan=0.0), starts)
    mean_count = defined.sum() / max(np.count_nonzero(defined), 1)
    return np.where(defined > 0, sums / max(mean_count, 1.0), np.nan)


def estimate_means(
    values_UM: Floats, *, resamples: int = 1000, seed: int = 0, owners_U: Ints | None = None
) -> list[Estimate]:
    """The mean of each metric with its percentile bootstrap interval over users.

    owners_U: as in `resampled_means`, where a row is a case and a user has several.
    """
    means_SM = resampled_means(values_UM, resamples, seed, owners_U)
    estimates = []
    for values_U, means_S in zip(values_UM.T, means_SM.T, strict=True):
        known = values_U[~np.isnan(values_U)]
        value = float(known.mean()) if known.size else math.nan
        low, high = percentile_interval(means_S)
        estimates.append(Estimate(value, low, high, known.size, len(values_U) - known.size))
    return estimates


def paired_difference(
    first_U: Floats, second_U: Floats, *, resamples: int = 1000, seed: int = 0
) -> Difference:
    """Bootstrap of the mean of first - second over the users where both are defined."""
    if first_U.shape != second_U.shape:
        raise ValueError(f"systems over different users: {first_U.shape} and {second_U.shape}")
    difference_U = (first_U - second_U)[:, None]
    [found] = estimate_means(difference_U, resamples=resamples, seed=seed)
    return Difference(found.value, found.low, found.high, found.defined)


def percentile_interval(means_S: Floats) -> tuple[float, float]:
    """The central 95 % of the resampled means; nan where none is defined."""
    known = means_S[~np.isnan(means_S)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
