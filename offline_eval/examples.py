"""Labelled examples and predicted probabilities -> every metric, each with its 95 % interval.

For rankers `measure_ranker`, for positive-unlabelled outcomes `measure_outcome`. The metrics are
those of `offline_eval.probabilities` and `offline_eval.positive_unlabelled`; here they are computed
under the bootstrap weights of `offline_eval.significance`, all resamples at once.

Shape suffixes: N examples, S resamples, G groups (users, sessions), B bins, R runs of equal scores.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.metrics import Bools, Floats, Ints
from offline_eval.positive_unlabelled import aul, corrected_at
from offline_eval.probabilities import (
    Binning,
    Weighting,
    auc_by_group,
    bin_of,
    entropy_of_share,
    gauc,
    log_loss,
    normalised_entropy,
    pr_auc,
    reliability,
)
from offline_eval.significance import Estimate, draw_weights, percentile_interval

CELLS = 1 << 22
"""Weights held at a time: resamples x examples."""
Statistic = Callable[[Floats], Floats]
"""Weights (S, N) to values (S,); nan where a resample leaves a value undefined."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Examples in ascending order of score, ready for many weightings."""

    order: NDArray[np.int64]
    """(N,) row of the example at each place."""
    labels: Floats
    """(N,) in that order."""
    starts: NDArray[np.int64]
    """(R,) where each run of equal scores begins."""

    @classmethod
    def of(cls, labels_N: Bools, scores_N: Floats) -> "Ordered":
        """Sort once."""
        order_N = np.argsort(scores_N, kind="stable")
        ordered_N = scores_N[order_N]
        new_N = np.append(True, ordered_N[1:] != ordered_N[:-1])[: len(ordered_N)]
        return cls(order_N, labels_N[order_N].astype(np.float64), np.flatnonzero(new_N))

    def runs(self, weights_SN: Floats) -> tuple[Floats, Floats]:
        """Weight of positives and of negatives in each run of equal scores, both (S, R)."""
        weights_SN = weights_SN[:, self.order]
        positives_SN = weights_SN * self.labels
        negatives_SN = weights_SN - positives_SN
        if len(self.starts) == len(self.order):
            return positives_SN, negatives_SN
        return (
            np.add.reduceat(positives_SN, self.starts, axis=1),
            np.add.reduceat(negatives_SN, self.starts, axis=1),
        )

    def auc(self, weights_SN: Floats) -> Floats:
        """Weighted AUC, ties at half: an example of weight 2 counts as two of its kind."""
        positives_SR, negatives_SR = self.runs(weights_SN)
        below_SR = np.cumsum(negatives_SR, axis=1) - negatives_SR / 2
        won_S = np.einsum("sr,sr->s", positives_SR, below_SR)
        return quotient(won_S, positives_SR.sum(axis=1) * negatives_SR.sum(axis=1))

    def pr_auc(self, weights_SN: Floats) -> Floats:
        """Weighted `pr_auc`."""
        positives_SR, negatives_SR = (runs[:, ::-1] for runs in self.runs(weights_SN))
        found_SR = np.cumsum(positives_SR, axis=1)
        shown_SR = np.cumsum(positives_SR + negatives_SR, axis=1)
        precision_SR = np.divide(
            found_SR, shown_SR, out=np.zeros_like(shown_SR), where=shown_SR > 0
        )
        return quotient(np.einsum("sr,sr->s", positives_SR, precision_SR), found_SR[:, -1])


def measure_ranker(  # noqa: PLR0913 (labels, scores, groups; each option changes a number)
    labels_N: Bools,
    probabilities_N: Floats,
    groups_N: Ints | None = None,
    *,
    weighting: Weighting = "examples",
    bins: int = 15,
    binning: Binning = "width",
    resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """AUC, GAUC, PR-AUC, log-loss, normalised entropy and ECE of a ranker, with intervals.

    groups_N: user (or request) of each example. Given it, whole groups are resampled, because the
    examples of one user are not independent; without it there is no `gauc`, and examples are
    resampled. `gauc` counts the groups it is over as defined, those of one class as undefined.
    Probabilities outside 0..1 raise InputError; so do shapes that differ and scores that are nan.
    """
    loss_N = log_loss(labels_N, probabilities_N)
    ordered = Ordered.of(labels_N, probabilities_N)
    values = {
        "auc": float(
            auc_by_group(labels_N, probabilities_N, np.zeros(len(labels_N), np.int64))[0][0]
        ),
        "pr_auc": pr_auc(labels_N, probabilities_N),
        "log_loss": float(loss_N.mean()),
        "normalised_entropy": normalised_entropy(labels_N, probabilities_N),
        "ece": reliability(labels_N, probabilities_N, bins=bins, binning=binning).error,
    }
    statistics: dict[str, Statistic] = {
        "auc": ordered.auc,
        "pr_auc": ordered.pr_auc,
        "log_loss": lambda weights_SN: quotient(weights_SN @ loss_N, weights_SN.sum(axis=1)),
        "normalised_entropy": lambda weights_SN: _entropies(weights_SN, labels_N, loss_N),
        "ece": _calibration(labels_N, probabilities_N, bins, binning),
    }
    codes_N, num_groups = _codes(groups_N, len(labels_N))
    drawn = _resample(statistics, codes_N, num_groups, resamples, seed)
    found = {
        name: _estimate(name, value, drawn[name], len(labels_N)) for name, value in values.items()
    }
    if groups_N is not None:
        found["gauc"] = _gauc(labels_N, probabilities_N, codes_N, weighting, (resamples, seed))
    return found


def measure_outcome(  # noqa: PLR0913 (labels, scores; each option changes a number)
    labels_N: Bools,
    probabilities_N: Floats,
    *,
    alpha: float,
    beta: float = 1.0,
    threshold: float = 0.5,
    bins: int = 15,
    binning: Binning = "mass",
    resamples: int = 1_000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """C-MCC, C-BAcc, C-F1, AUL, AUC, PR-AUC, log-loss and ECE of a positive-unlabelled outcome.

    labels_N: labelled positive? The rest is unlabelled; a share `alpha` of it is positive, and a
    share `beta` of the labelled positives truly is (`positive_unlabelled`). Predicted positive is a
    probability of at least `threshold`. Intervals: stratified bootstrap, labelled positives and
    unlabelled resampled apart, so their shares stay (life2vec, Nature Comp. Sci. 2024, uses 1,000
    such). log-loss and ECE are of the labels as given, not corrected.
    Raises InputError for bad examples, or none of either kind; ValueError unless alpha < beta.
    """
    loss_N = log_loss(labels_N, probabilities_N)
    share = float(labels_N.mean())
    if share in (0, 1):
        raise InputError(f"all {len(labels_N)} labels are {bool(share)}: both kinds are needed")
    said_N = (probabilities_N >= threshold).astype(np.float64)
    parts = {"alpha": alpha, "beta": beta, "prevalence": share}
    ordered = Ordered.of(labels_N, probabilities_N)
    plain = corrected_at(said_N[labels_N].mean(), said_N[~labels_N].mean(), **parts)
    values = {
        **{name: float(value) for name, value in plain.items()},
        "aul": aul(labels_N, probabilities_N),
        "auc": float(
            auc_by_group(labels_N, probabilities_N, np.zeros(len(labels_N), np.int64))[0][0]
        ),
        "pr_auc": pr_auc(labels_N, probabilities_N),
        "log_loss": float(loss_N.mean()),
        "ece": reliability(labels_N, probabilities_N, bins=bins, binning=binning).error,
    }

    def corrections(weights_SN: Floats, name: str) -> Floats:
        gamma_S, nu_S = (
            quotient(weights_SN[:, own] @ said_N[own], weights_SN[:, own].sum(axis=1))
            for own in (labels_N, ~labels_N)
        )
        return corrected_at(gamma_S, nu_S, **parts)[name]

    statistics: dict[str, Statistic] = {
        **{name: lambda weights_SN, name=name: corrections(weights_SN, name) for name in plain},
        "aul": lambda weights_SN: share / 2 + (1 - share) * ordered.auc(weights_SN),
        "auc": ordered.auc,
        "pr_auc": ordered.pr_auc,
        "log_loss": lambda weights_SN: quotient(weights_SN @ loss_N, weights_SN.sum(axis=1)),
        "ece": _calibration(labels_N, probabilities_N, bins, binning),
    }
    drawn = _resample(
        statistics, np.arange(len(labels_N)), len(labels_N), resamples, seed, strata_N=labels_N
    )
    return {
        name: _estimate(name, value, drawn[name], len(labels_N)) for name, value in values.items()
    }


def quotient(numerator_S: Floats, denominator_S: Floats) -> Floats:
    """The quotient, nan where the denominator is 0."""
    values_S = np.full(len(numerator_S), math.nan)
    np.divide(numerator_S, denominator_S, out=values_S, where=denominator_S > 0)
    return values_S


def _codes(groups_N: Ints | None, count: int) -> tuple[NDArray[np.int64], int]:
    """Group number from 0 of each example, and how many groups; each example its own without."""
    if groups_N is None:
        return np.arange(count), count
    if len(groups_N) != count:
        raise InputError(f"{len(groups_N)} groups for {count} examples: expected one each")
    distinct_G, codes_N = np.unique(groups_N, return_inverse=True)
    return codes_N, len(distinct_G)


def _weights(num_groups: int, num_examples: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights of the groups, (some of S, G), all resamples block by block."""
    stream = np.random.SFC64(seed)
    block = max(CELLS // max(num_examples, 1), 1)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = draw_weights(stream, rows * num_groups).astype(np.float64)
        yield drawn.reshape(rows, num_groups)


def _resample(
    statistics: Mapping[str, Statistic],
    codes_N: Ints,
    num_groups: int,
    resamples: int,
    seed: int,
    *,
    strata_N: Bools | None = None,
) -> dict[str, Floats]:
    """Each statistic of each resample, (S,). With strata, each keeps its own total weight."""
    parts: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights_SG in _weights(num_groups, len(codes_N), resamples, seed):
        weights_SN = weights_SG[:, codes_N]
        for own_N in () if strata_N is None else (strata_N, ~strata_N):
            total_S = weights_SN[:, own_N].sum(axis=1, keepdims=True)
            weights_SN[:, own_N] *= np.count_nonzero(own_N) / np.maximum(total_S, 1e-300)
        for name, statistic in statistics.items():
            parts[name].append(statistic(weights_SN))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _estimate(name: str, value: float, drawn_S: Floats, count: int) -> Estimate:
    low, high = percentile_interval(drawn_S)
    if name == "ece":  # noise makes it larger, and a resample adds as much again: reflect
        low, high = max(2 * value - high, 0.0), max(2 * value - low, 0.0)
    return Estimate(value, low, high, count, 0)


def _gauc(
    labels_N: Bools,
    scores_N: Floats,
    codes_N: Ints,
    weighting: Weighting,
    draws: tuple[int, int],
) -> Estimate:
    """GAUC with an interval over groups: a ratio of two weighted sums, so a matrix product."""
    value = gauc(labels_N, scores_N, codes_N, weighting=weighting)
    auc_G, sizes_G = auc_by_group(labels_N, scores_N, codes_N)
    by = {
        "examples": sizes_G,
        "positives": np.bincount(codes_N, labels_N, minlength=len(auc_G)),
        "equal": np.ones(len(auc_G)),
    }
    known_G = ~np.isnan(auc_G)
    weight_G = by[weighting] * known_G
    parts_G2 = np.stack([np.where(known_G, auc_G, 0) * weight_G, weight_G], axis=1)
    sums = [w @ parts_G2 for w in _weights(len(auc_G), len(auc_G), *draws)]
    sums_S2 = np.concatenate(sums)
    low, high = percentile_interval(quotient(sums_S2[:, 0], sums_S2[:, 1]))
    defined = int(np.count_nonzero(known_G))
    return Estimate(value, low, high, defined, len(auc_G) - defined)


def _entropies(weights_SN: Floats, labels_N: Bools, loss_N: Floats) -> Floats:
    total_S = weights_SN.sum(axis=1)
    base_S = entropy_of_share(quotient(weights_SN @ labels_N, total_S))
    return quotient(quotient(weights_SN @ loss_N, total_S), base_S)


def _calibration(
    labels_N: Bools, probabilities_N: Floats, bins: int, binning: Binning
) -> Statistic:
    """Weighted calibration error: the gaps of a bin add up before their size is taken."""
    bin_N = bin_of(probabilities_N, bins, binning)
    gaps_NB = (bin_N[:, None] == np.arange(bins)) * (probabilities_N - labels_N)[:, None]

    def error(weights_SN: Floats) -> Floats:
        return quotient(np.abs(weights_SN @ gaps_NB).sum(axis=1), weights_SN.sum(axis=1))

    return error
