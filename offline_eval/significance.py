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

from offline_eval.metrics import Floats

LEVEL = 0.95
"""Confidence of every interval here."""
BLOCK = 1 << 13
"""Users weighed at a time: bounds memory at S x BLOCK floats."""
WEIGHTS = np.repeat(np.arange(6), (94, 95, 46, 16, 4, 1)).astype(np.float32)
"""A byte indexes this table: Poisson(1) to 1/256, with mean and variance exactly 1."""


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


def resampled_means(values_UM: Floats, resamples: int, seed: int) -> NDArray[np.float64]:
    """Bootstrap means over users, (S, M). nan values take no part; no defined user gives nan."""
    defined_UM = ~np.isnan(values_UM)
    known_UM = np.where(defined_UM, values_UM, 0.0).astype(np.float32)
    stream = np.random.SFC64(seed)
    sums_SM = np.zeros((resamples, values_UM.shape[1]))
    weights_SM = np.zeros_like(sums_SM)
    for start in range(0, len(values_UM), BLOCK):
        users = min(BLOCK, len(values_UM) - start)
        raw = stream.random_raw(-(-resamples * users // 8)).view(np.uint8)[: resamples * users]
        weights_SU = WEIGHTS[raw].reshape(resamples, users)
        sums_SM += weights_SU @ known_UM[start : start + users]
        weights_SM += weights_SU @ defined_UM[start : start + users].astype(np.float32)
    means_SM = np.full_like(sums_SM, np.nan)
    np.divide(sums_SM, weights_SM, out=means_SM, where=weights_SM > 0)
    return means_SM


def estimate_means(values_UM: Floats, *, resamples: int = 1000, seed: int = 0) -> list[Estimate]:
    """The mean of each metric with its percentile bootstrap interval over users."""
    means_SM = resampled_means(values_UM, resamples, seed)
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
