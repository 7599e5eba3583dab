"""What a new policy would have earned, from a log of what an old one showed with known chances.

Per request, a policy fills ranks with items. An exposure e at some rank has reward r, was drawn
with propensity p, and the new policy would have shown it there with chance t; its weight is t / p.

    IPS    mean over requests of  sum of w * r                         (Horvitz & Thompson 1952)
    SNIPS  m * (sum of w * r) / (sum of w),  m filled ranks a request  (Swaminathan & Joachims 2015)
    DR     mean over requests of  sum of t * q over all the new policy would show
                                  + sum of w * (r - q) over the log    (Dudik et al., ICML 2011)

q predicts the reward of an item at a rank. IPS and DR are unbiased where every item the new policy
may show had some propensity; SNIPS nearly so, with less noise. For lists, all three assume that a
reward depends on item and rank and not on the rest of the list (item-position model, Li et al., KDD
2018). Intervals: bootstrap over users, whose requests are not independent.

Shape suffixes: E exposures of the log, Q requests, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.metrics import Floats, Ints
from offline_eval.significance import (
    Difference,
    Estimate,
    percentile_interval,
    resampled_means,
)

TAIL = 0.01
"""The largest weights, as a share of all exposures, whose part of the total is told."""
FEW = 0.01
"""Effective exposures, as a share of all: below it the log says little about the policy."""
ABSENT = 0.01
"""Chance on items that the log never shows: above it estimates leave out too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A log beside a new policy, exposure by exposure and request by request."""

    request: NDArray[np.int64]
    """(E,) row of the request, 0..Q - 1."""
    user: NDArray[np.int64]
    """(Q,) row of the user, 0..U - 1."""
    reward: Floats
    """(E,)"""
    propensity: Floats
    """(E,) within (0, 1]."""
    target: Floats
    """(E,) chance that the new policy shows this item at this rank of this request."""
    predicted: Floats
    """(E,) expected reward of the exposure, by a model that has not seen it."""
    planned: Floats
    """(Q,) sum over all that the new policy may show of chance times expected reward."""
    filled: Floats
    """(Q,) ranks the new policy fills: the sum of its chances."""
    absent: float
    """Share of the new policy's chances on items that the log shows to nobody."""

    def __post_init__(self) -> None:
        if not len(self.user) or not len(self.request):
            raise InputError("the exposure log is empty: there is nothing to learn from")
        if ((self.propensity <= 0) | (self.propensity > 1)).any():
            raise InputError("propensities must be above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Whether the log can speak about the policy at all."""

    effective: float
    """Exposures of equal weight that would be as noisy: (sum of w)^2 / sum of w^2."""
    exposures: int
    mean_weight: Estimate
    """Sum of weights over filled ranks: 1 where the log could have shown all the policy shows."""
    largest: float
    """The largest weight."""
    tail_share: float
    """Part of the total weight that the largest 1 % of exposures hold."""
    absent: float
    """Share of the policy's chances on items that the log shows to nobody."""

    @property
    def warnings(self) -> list[str]:
        """What makes the estimates doubtful, in words; empty where nothing does."""
        found = []
        if self.effective < FEW * self.exposures:
            found.append(
                f"the log equals only {self.effective:,.0f} exposures under this policy, of "
                f"{self.exposures:,}: intervals may be too narrow"
            )
        if self.mean_weight.high < 1 or self.mean_weight.low > 1:
            found.append(
                f"weights average {self.mean_weight.value:.3f} [{self.mean_weight.low:.3f}, "
                f"{self.mean_weight.high:.3f}] instead of 1: the policy shows what the log could "
                "not, or the logged propensities are wrong"
            )
        if self.absent > ABSENT:
            found.append(
                f"{self.absent:.1%} of what the policy would show was shown to nobody: IPS and "
                "SNIPS know nothing about it, DR only what the reward model guesses"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """Reward per request: what was, and what would have been."""

    logged: Estimate
    """What the log's own policy earned."""
    ips: Estimate
    snips: Estimate
    dr: Estimate
    gain: Difference
    """DR of the new policy minus the logged reward, over the same resamples."""
    overlap: Overlap
    requests: int


def evaluate_policy(
    log: Logged, *, clip: float | None = None, resamples: int = 1_000, seed: int = 0
) -> PolicyValue:
    """Estimate the new policy's reward per request, with 95 % intervals over users.

    clip: the largest weight allowed; it trades noise for a bias towards less, and is never silent:
    the mean weight then falls below 1. Raises InputError for an empty log.
    """
    weight_E = log.target / log.propensity
    if clip is not None:
        weight_E = np.minimum(weight_E, clip)
    num_requests = len(log.user)

    def by_request(values_E: Floats) -> Floats:
        summed = np.bincount(log.request, values_E, minlength=num_requests)
        return summed.astype(np.float64)

    parts_Q = {
        "requests": np.ones(num_requests),
        "reward": by_request(log.reward),
        "weight": by_request(weight_E),
        "weighted": by_request(weight_E * log.reward),
        "robust": log.planned + by_request(weight_E * (log.reward - log.predicted)),
        "filled": log.filled,
    }
    by_user = [np.bincount(log.user, part_Q) for part_Q in parts_Q.values()]
    sums_UP = np.stack(by_user, axis=1).astype(np.float64)
    known = np.flatnonzero(sums_UP[:, 0])
    means_SP = resampled_means(sums_UP[known], resamples, seed)
    means_P = sums_UP[known].mean(axis=0)
    drawn = dict(zip(parts_Q, means_SP.T, strict=True))
    plain = dict(zip(parts_Q, means_P[:, None], strict=True))
    values = {name: formula(plain)[0] for name, formula in FORMULAS.items()}
    intervals = {name: percentile_interval(formula(drawn)) for name, formula in FORMULAS.items()}
    found = {
        name: Estimate(float(value), *intervals[name], num_requests, 0)
        for name, value in values.items()
    }
    gain = Difference(
        float(values["dr"] - values["logged"]),
        *percentile_interval(FORMULAS["dr"](drawn) - FORMULAS["logged"](drawn)),
        len(known),
    )
    return PolicyValue(
        logged=found["logged"],
        ips=found["ips"],
        snips=found["snips"],
        dr=found["dr"],
        gain=gain,
        overlap=_overlap(weight_E, found["mean weight"], log.absent),
        requests=num_requests,
    )


FORMULAS = {
    "logged": lambda part: part["reward"] / part["requests"],
    "ips": lambda part: part["weighted"] / part["requests"],
    "snips": lambda part: (
        _ratio(part["weighted"], part["weight"]) * part["filled"] / part["requests"]
    ),
    "dr": lambda part: part["robust"] / part["requests"],
    "mean weight": lambda part: _ratio(part["weight"], part["filled"]),
}
"""Estimators of means over users of sums over their requests."""


def _ratio(numerator_S: Floats, denominator_S: Floats) -> Floats:
    """The quotient, nan where the policy has no weight at all."""
    values_S = np.full(len(numerator_S), np.nan)
    np.divide(numerator_S, denominator_S, out=values_S, where=denominator_S > 0)
    return values_S


def _overlap(weight_E: Floats, mean_weight: Estimate, absent: float) -> Overlap:
    total, squares = weight_E.sum(), weight_E @ weight_E
    tail = max(int(TAIL * len(weight_E)), 1)
    largest = np.partition(weight_E, len(weight_E) - tail)[-tail:]
    return Overlap(
        effective=float(total**2 / squares) if squares > 0 else 0.0,
        exposures=len(weight_E),
        mean_weight=mean_weight,
        largest=float(weight_E.max()),
        tail_share=float(largest.sum() / total) if total > 0 else float("nan"),
        absent=absent,
    )


def shrunken_rewards(
    item_E: Ints, rank_E: Ints, reward_E: Floats, fold_E: Ints, *, strength: float = 10.0
) -> Sequence["RewardModel"]:
    """A plain reward model per fold, fitted on the exposures of all other folds.

    Expected reward = mean reward of the rank * the item's rewards over what its ranks would have
    brought, where `strength` exposures of an average item are added to both. So nothing that is
    predicted was seen in fitting, which DR needs to stay unbiased.
    """
    num_items, num_ranks = int(item_E.max(initial=0)) + 1, int(rank_E.max(initial=0)) + 1
    models = []
    for fold in range(int(fold_E.max(initial=0)) + 1):
        other = fold_E != fold
        items, ranks, rewards = item_E[other], rank_E[other], reward_E[other]
        shown_R = np.bincount(ranks, minlength=num_ranks)
        base = float(rewards.mean()) if len(rewards) else 0.0
        earned_R = np.bincount(ranks, rewards, minlength=num_ranks)
        by_rank_R = np.where(shown_R > 0, earned_R / np.maximum(shown_R, 1), base)
        expected_V = np.bincount(items, by_rank_R[ranks], minlength=num_items)
        earned_V = np.bincount(items, rewards, minlength=num_items)
        prior = strength * base
        factor_V = np.ones(num_items)
        np.divide(
            earned_V + prior, expected_V + prior, out=factor_V, where=np.abs(expected_V + prior) > 0
        )
        models.append(RewardModel(by_rank_R, factor_V, base))
    return models


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Expected reward of an item at a rank."""

    by_rank: Floats
    """(ranks + 1,) mean reward of the rank; row 0 is not used."""
    factor: Floats
    """(items,) how much more than an average item."""
    base: float
    """Mean reward, for ranks that the log does not have."""

    def predict(self, item_E: Ints, rank_E: Ints) -> Floats:
        """Expected rewards; item -1 is one that the log does not know and counts as average."""
        inside = rank_E < len(self.by_rank)
        rank_mean_E = np.where(inside, self.by_rank[np.where(inside, rank_E, 0)], self.base)
        return rank_mean_E * np.where(item_E >= 0, self.factor[np.maximum(item_E, 0)], 1.0)
