"""Tests of paired differences: is it chance, among how many, and what could be found at all?

Shape suffixes: U users, S permutations, H hypotheses.
"""

import math

import numpy as np

from offline_eval.metrics import Floats

BLOCK = 1 << 13
"""Users whose signs are drawn at a time."""
LARGE = 20_000
"""Differing users from which a permutation test is as good as its normal limit."""
NORMAL_975 = 1.959963984540054
"""97.5 % point of the normal distribution: two-sided tests at 5 %."""
NORMAL_80 = 0.8416212335729143
"""80 % point: the power that sample sizes are usually planned for."""


def permutation_p(difference_U: Floats, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the paired permutation test on the mean difference.

    If the systems were equal, each user's difference could as well have the other sign. The
    p-value is the share of random sign patterns, the observed one among them, whose mean is at
    least as far from 0 (Phipson & Smyth 2010: never 0). nan differences take no part; none left
    gives nan. No difference at all gives 1.
    """
    known = difference_U[~np.isnan(difference_U)]
    if not known.size:
        return math.nan
    moved = known[known != 0].astype(np.float32)  # a sign does not change 0
    stream = np.random.SFC64(seed)
    positive_S = np.zeros(permutations)
    for start in range(0, len(moved), BLOCK):
        part = moved[start : start + BLOCK]
        size = permutations * len(part)
        raw = stream.random_raw(-(-size // 64)).view(np.uint8)
        signs_SU = np.unpackbits(raw, count=size).reshape(permutations, len(part))
        positive_S += signs_SU.astype(np.float32) @ part
    total = float(moved.sum(dtype=np.float64))
    reached = np.abs(2 * positive_S - total) >= abs(total) * (1 - 1e-5)  # float32 sums
    return float((1 + np.count_nonzero(reached)) / (permutations + 1))


def paired_p(difference_U: Floats, *, permutations: int = 10_000, seed: int = 0) -> float:
    """`permutation_p`; its normal limit where more than `LARGE` users differ.

    The mean of so many signed differences is normal to within the noise of 10,000 permutations.
    """
    known = difference_U[~np.isnan(difference_U)]
    moved = known[known != 0]
    if len(moved) <= LARGE:
        return permutation_p(difference_U, permutations=permutations, seed=seed)
    z = abs(moved.sum()) / math.sqrt(moved @ moved)
    return math.erfc(z / math.sqrt(2))


def holm(p_H: Floats) -> Floats:
    """p-values adjusted so that the chance of any false finding stays at the level (Holm 1979).

    The smallest of H is multiplied by H, the next by H - 1, and so on, never falling below the
    one before and never above 1. nan stays nan and counts for nothing.
    """
    adjusted_H = np.full(len(p_H), np.nan)
    known = np.flatnonzero(~np.isnan(p_H))
    order = known[np.argsort(p_H[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted_H[order] = np.minimum(np.maximum.accumulate(p_H[order] * factors), 1)
    return adjusted_H


def minimal_detectable_effect(difference_U: Floats) -> float:
    """The true mean difference that a test on so many users would find 4 times out of 5.

        (z_0.975 + z_0.8) * standard deviation / sqrt(U),  two-sided at 5 %, power 80 %

    From differences of two systems like the ones to be compared; a smaller effect needs more
    users. Fewer than two users give nan.
    """
    known = difference_U[~np.isnan(difference_U)]
    if known.size < 2:
        return math.nan
    return float((NORMAL_975 + NORMAL_80) * known.std(ddof=1) / math.sqrt(known.size))
