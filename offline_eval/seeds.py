"""Several seeds of a system combined: the noise of users and that of training both count.

Value of user u with seed r: x_ru. The mean over both has the variance of the bootstrap over users
(of the values averaged over seeds) plus s^2 / R, s the standard deviation of the seeds' means. Few
seeds tell their spread badly, so intervals and tests use Student's t with Satterthwaite's degrees
of freedom. With one seed only the users count: training noise is then unknown, not zero.

Shape suffixes: R seeds, U users.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from offline_eval.hypotheses import NORMAL_80, minimal_detectable_effect, paired_p
from offline_eval.metrics import Floats
from offline_eval.significance import (
    Difference,
    Estimate,
    estimate_means,
    paired_difference,
)


@dataclass(frozen=True, slots=True)
class SeedTest:
    """A difference of two systems, each with one seed or several."""

    difference: Difference
    p: float
    detectable: float
    """The true difference that would show 4 times out of 5."""


def estimate_seeds(values_RU: Floats, *, resamples: int = 1_000, seed: int = 0) -> Estimate:
    """The mean over seeds and users with its 95 % interval; one seed: the bootstrap over users."""
    [found] = estimate_means(values_RU.mean(axis=0)[:, None], resamples=resamples, seed=seed)
    if len(values_RU) == 1 or not found.defined:
        return found
    error, freedom = _combined(_error(found), found.defined, [values_RU])
    half = float(student.ppf(0.975, freedom)) * error
    return Estimate(
        found.value, found.value - half, found.value + half, found.defined, found.undefined
    )


def compare_seeds(
    first_RU: Floats, second_RU: Floats, *, resamples: int = 1_000, seed: int = 0
) -> SeedTest:
    """First minus second, over the users where both are defined.

    One seed each: paired bootstrap and permutation test. Otherwise Student's t as said above.
    """
    first_U, second_U = first_RU.mean(axis=0), second_RU.mean(axis=0)
    found = paired_difference(first_U, second_U, resamples=resamples, seed=seed)
    several = [values for values in (first_RU, second_RU) if len(values) > 1]
    if not several or not found.users:
        p = paired_p(first_U - second_U, seed=seed)
        return SeedTest(found, p, minimal_detectable_effect(first_U - second_U))
    known = ~np.isnan(first_U - second_U)
    error, freedom = _combined(_error(found), found.users, [values[:, known] for values in several])
    quantile = float(student.ppf(0.975, freedom))
    wide = Difference(
        found.value, found.value - quantile * error, found.value + quantile * error, found.users
    )
    p = float(2 * student.sf(abs(found.value) / error, freedom)) if error else 1.0
    return SeedTest(wide, p, (quantile + NORMAL_80) * error)


def _error(found: Estimate | Difference) -> float:
    """Standard error over users, from the width of the bootstrap interval."""
    return (found.high - found.low) / (2 * 1.959963984540054)


def _combined(user_error: float, num_users: int, seeds: list[Floats]) -> tuple[float, float]:
    """Standard error over users and seeds together, and its degrees of freedom."""
    parts = [(user_error**2, max(num_users - 1, 1))]
    for values_RU in seeds:
        means_R = values_RU[:, ~np.isnan(values_RU).any(axis=0)].mean(axis=1)
        parts.append((float(means_R.var(ddof=1)) / len(means_R), len(means_R) - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0, float(num_users)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    return math.sqrt(total), freedom
