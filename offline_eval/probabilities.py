"""Metrics of predicted probabilities and scores against 0/1 labels: rankers and outcome models.

Shape suffixes: N examples, G groups (users, sessions), B bins.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.metrics import Bools, Floats, Ints

Weighting = Literal["examples", "positives", "equal"]
"""What a group counts in GAUC: its examples (impressions), its positives (clicks), or one."""
Binning = Literal["width", "mass"]
"""Bins of probability: of equal width, or of equally many examples."""
EPSILON = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1, as scikit-learn does."""


def check_examples(labels_N: Bools, scores_N: Floats) -> None:
    """Raise InputError unless there is one finite score for each label, and at least one."""
    if labels_N.shape != scores_N.shape or labels_N.ndim != 1:
        raise InputError(f"{labels_N.shape} labels and {scores_N.shape} scores: expected one each")
    if not len(labels_N):
        raise InputError("no examples: a metric of nothing has no value")
    if bad := int(np.count_nonzero(~np.isfinite(scores_N))):
        raise InputError(f"{bad} of {len(scores_N)} scores are nan or infinite")


def log_loss(labels_N: Bools, probabilities_N: Floats) -> Floats:
    """Negative log-likelihood of each label, nats. Its mean is what papers call LogLoss."""
    check_examples(labels_N, probabilities_N)
    if ((probabilities_N < 0) | (probabilities_N > 1)).any():
        raise InputError("probabilities outside 0..1: are these scores before the sigmoid?")
    likelihood_N = np.where(labels_N, probabilities_N, 1 - probabilities_N)
    return -np.log(np.clip(likelihood_N, EPSILON, 1 - EPSILON))


def normalised_entropy(labels_N: Bools, probabilities_N: Floats) -> float:
    """Mean log-loss divided by that of always predicting the share of positives.

    He et al., ADKDD 2014. 1 is a model that knows only the base rate; one class alone gives nan.
    """
    loss = log_loss(labels_N, probabilities_N).mean()
    base = float(entropy_of_share(np.atleast_1d(labels_N.mean()))[0])
    return float(loss / base) if base > 0 else float("nan")


def entropy_of_share(share_S: Floats) -> Floats:
    """Log-loss, nats, of always predicting a share that is right; 0 for shares 0 and 1."""
    inside_S = np.clip(share_S, EPSILON, 1 - EPSILON)
    entropy_S = -(inside_S * np.log(inside_S) + (1 - inside_S) * np.log(1 - inside_S))
    return np.where((share_S > 0) & (share_S < 1), entropy_S, 0.0)


def pr_auc(labels_N: Bools, scores_N: Floats) -> float:
    """Area under precision over recall as a step function, a step at each distinct score.

    Equal scores are one step, so constant scores give the share of positives. No positive: nan.
    """
    check_examples(labels_N, scores_N)
    if not labels_N.any():
        return float("nan")
    order = np.argsort(-scores_N, kind="stable")
    scores_N, found_N = scores_N[order], np.cumsum(labels_N[order])
    last_N = np.append(scores_N[1:] != scores_N[:-1], True)  # of each distinct score
    found = found_N[last_N]
    shown = np.flatnonzero(last_N) + 1
    return float((np.diff(found, prepend=0) / found[-1] * found / shown).sum())


def auc_by_group(
    labels_N: Bools, scores_N: Floats, groups_N: Ints
) -> tuple[Floats, NDArray[np.int64]]:
    """AUC within each group, ties at half, and examples per group; by ascending group.

    From rank sums (Mann-Whitney). A group of one class alone gives nan.
    """
    check_examples(labels_N, scores_N)
    order = np.lexsort([scores_N, groups_N])
    labels_N, scores_N, groups_N = labels_N[order], scores_N[order], groups_N[order]
    new_group = np.append(True, groups_N[1:] != groups_N[:-1])
    group_N = np.cumsum(new_group) - 1
    run_N = np.cumsum(np.append(True, scores_N[1:] != scores_N[:-1]) | new_group) - 1
    sizes_R = np.bincount(run_N)
    middle_R = np.cumsum(sizes_R) - (sizes_R - 1) / 2  # mean rank of a run of equal scores
    sizes_G = np.bincount(group_N)
    rank_N = middle_R[run_N] - (np.cumsum(sizes_G) - sizes_G)[group_N]
    positives_G = np.bincount(group_N, labels_N)
    pairs_G = positives_G * (sizes_G - positives_G)
    won_G = np.bincount(group_N, rank_N * labels_N) - positives_G * (positives_G + 1) / 2
    auc_G = np.full(len(sizes_G), np.nan)
    np.divide(won_G, pairs_G, out=auc_G, where=pairs_G > 0)
    return auc_G, sizes_G


def gauc(
    labels_N: Bools,
    scores_N: Floats,
    groups_N: Ints,
    *,
    weighting: Weighting = "examples",
) -> float:
    """Mean AUC over groups, weighted by their examples, by their positives, or equally.

    DIN (KDD 2018) writes impressions or clicks, and its code takes examples; RecBole's GAUC takes
    positives. Groups of one class alone are left out; none left gives nan.
    """
    auc_G, sizes_G = auc_by_group(labels_N, scores_N, groups_N)
    known_G = ~np.isnan(auc_G)
    if not known_G.any():
        return float("nan")
    if weighting == "positives":
        _, codes_N = np.unique(groups_N, return_inverse=True)
        sizes_G = np.bincount(codes_N, labels_N)
    weights = None if weighting == "equal" else sizes_G[known_G]
    return float(np.average(auc_G[known_G], weights=weights))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted against observed, in bins of predicted probability. Empty bins are nan."""

    predicted: Floats
    """Mean probability, (B,)."""
    observed: Floats
    """Share of positives, (B,)."""
    counts: NDArray[np.int64]
    """Examples, (B,)."""

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al., AAAI 2015): mean gap, weighted by examples."""
        filled = self.counts > 0
        gaps = np.abs(self.predicted[filled] - self.observed[filled])
        return float(np.average(gaps, weights=self.counts[filled]))


def reliability(
    labels_N: Bools, probabilities_N: Floats, *, bins: int = 15, binning: Binning = "width"
) -> Reliability:
    """Predicted against observed. The error grows with the number of bins: compare equal ones.

    `width`: equal bins of 0..1; a probability on an edge belongs to the bin above, 1 to the last.
    `mass`: bins of equally many examples, for rare outcomes; equal probabilities share a bin.
    """
    check_examples(labels_N, probabilities_N)
    bin_N = bin_of(probabilities_N, bins, binning)
    counts = np.bincount(bin_N, minlength=bins)
    means = []
    for values_N in (probabilities_N, labels_N):
        mean = np.full(bins, np.nan)
        np.divide(np.bincount(bin_N, values_N, minlength=bins), counts, out=mean, where=counts > 0)
        means.append(mean)
    return Reliability(means[0], means[1], counts)


def bin_of(probabilities_N: Floats, bins: int, binning: Binning) -> NDArray[np.int64]:
    """Bin of each example, 0..bins - 1 by ascending probability; raises InputError outside 0..1."""
    if bins < 1:
        raise InputError(f"bins={bins}: at least one is needed")
    if ((probabilities_N < 0) | (probabilities_N > 1)).any():
        raise InputError("probabilities outside 0..1: are these scores before the sigmoid?")
    if binning == "width":
        return np.minimum((probabilities_N * bins).astype(np.int64), bins - 1)
    ordered_N = np.sort(probabilities_N)
    first_N = np.searchsorted(ordered_N, probabilities_N)  # equal ones share the first's place
    return first_N * bins // len(probabilities_N)
