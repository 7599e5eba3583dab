"""Metrics of predicted probabilities and scores against 0/1 labels: rankers and outcome models.

Shape suffixes: N examples, G groups (users, sessions), B bins.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.metrics import Bools, Floats, Ints

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
    share = labels_N.mean()
    if share in (0, 1):
        return float("nan")
    return float(loss / -(share * np.log(share) + (1 - share) * np.log(1 - share)))


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
    weighting: Literal["examples", "equal"] = "examples",
) -> float:
    """Mean AUC over groups, weighted by their examples (as in DIN, KDD 2018) or equally.

    Groups of one class alone are left out; none left gives nan.
    """
    auc_G, sizes_G = auc_by_group(labels_N, scores_N, groups_N)
    known_G = ~np.isnan(auc_G)
    if not known_G.any():
        return float("nan")
    weights = sizes_G[known_G] if weighting == "examples" else None
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


def reliability(labels_N: Bools, probabilities_N: Floats, *, bins: int = 15) -> Reliability:
    """Bins of equal width over 0..1; a probability on an edge belongs to the bin above, 1 to the
    last. The error grows with the number of bins: compare only equal ones.
    """
    check_examples(labels_N, probabilities_N)
    bin_N = np.minimum((probabilities_N * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_N, minlength=bins)
    means = []
    for values_N in (probabilities_N, labels_N):
        mean = np.full(bins, np.nan)
        np.divide(np.bincount(bin_N, values_N, minlength=bins), counts, out=mean, where=counts > 0)
        means.append(mean)
    return Reliability(means[0], means[1], counts)
