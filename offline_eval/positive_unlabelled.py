"""Metrics where positives are certain and the rest is unlabelled: some of it is positive too.

    gamma, nu   rates of predicted positives among labelled positives, and among the unlabelled
    prevalence  share of labelled positives, c in the paper
    alpha       share of positives among the unlabelled
    beta        share of positives among the labelled positives, 1 where labels do not err

Ramola, Jain & Radivojac, PSB 2019, as used by life2vec (Nature Comp. Sci. 2024).
"""

from dataclasses import dataclass

import numpy as np

from offline_eval.metrics import Bools, Floats
from offline_eval.probabilities import auc_by_group


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a classifier would score if the true labels were known."""

    mcc: float
    balanced_accuracy: float
    f1: float


def corrected(
    gamma: float, nu: float, *, prevalence: float, alpha: float, beta: float = 1.0
) -> Corrected:
    """Correct rates measured on labelled against unlabelled. Needs beta > alpha.

    Never predicting positive, or always, gives mcc nan.
    """
    found = corrected_at(gamma, nu, prevalence=prevalence, alpha=alpha, beta=beta)
    mcc, balanced_accuracy, f1 = (float(value) for value in found.values())
    return Corrected(mcc, balanced_accuracy, f1)


def corrected_at(
    gamma: float | Floats, nu: float | Floats, *, prevalence: float, alpha: float, beta: float = 1.0
) -> dict[str, Floats]:
    """As `corrected` for any number of rates at once: `c_mcc`, `c_balanced_accuracy`, `c_f1`.

        gamma* = ((1 - alpha) gamma - (1 - beta) nu) / (beta - alpha)
        nu*    = (beta nu - alpha gamma) / (beta - alpha)
        c*     = beta c + (1 - c) alpha;  theta = c gamma + (1 - c) nu
        C-MCC  = sqrt(c* (1 - c*) / (theta (1 - theta))) (gamma* - nu*)
        C-BAcc = (1 + gamma* - nu*) / 2;  C-F1 = 2 c* gamma* / (c* + theta)

    theta is the share of predicted positives among all examples.
    """
    if not 0 <= alpha < beta <= 1:
        raise ValueError(f"alpha={alpha} must be below beta={beta}, both within 0..1")
    gamma, nu = np.asarray(gamma, np.float64), np.asarray(nu, np.float64)
    true_positive = ((1 - alpha) * gamma - (1 - beta) * nu) / (beta - alpha)
    false_positive = (beta * nu - alpha * gamma) / (beta - alpha)
    positives = beta * prevalence + (1 - prevalence) * alpha
    predicted = prevalence * gamma + (1 - prevalence) * nu
    spread = predicted * (1 - predicted)
    variance = np.full(spread.shape, np.nan)
    np.divide(positives * (1 - positives), spread, out=variance, where=spread > 0)
    return {
        "c_mcc": np.sqrt(variance) * (true_positive - false_positive),
        "c_balanced_accuracy": (1 + true_positive - false_positive) / 2,
        "c_f1": 2 * positives * true_positive / (positives + predicted),
    }


def aul(labels_N: Bools, scores_N: Floats) -> float:
    """Chance that a labelled positive scores above any example, itself included; ties at half.

        AUL = pi / 2 + (1 - pi) * AUC,  pi the share of labelled positives

    Ranks classifiers as the AUC of the true labels would. No positive gives nan; all positive 1/2.
    """
    share = float(labels_N.mean())
    if share == 1:
        return 0.5
    auc_G, _ = auc_by_group(labels_N, scores_N, np.zeros(len(labels_N), np.int64))
    return share / 2 + (1 - share) * float(auc_G[0])
