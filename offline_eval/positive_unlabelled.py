"""Metrics where positives are certain and the rest is unlabelled: some of it is positive too.

    gamma, nu   rates of predicted positives among labelled positives, and among the unlabelled
    prevalence  share of labelled positives, c in the paper
    alpha       share of positives among the unlabelled
    beta        share of positives among the labelled positives, 1 where labels do not err

Ramola, Jain & Radivojac, PSB 2019, as used by life2vec (Nature Comp. Sci. 2024).
"""

from dataclasses import dataclass
from math import sqrt

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
    if not 0 <= alpha < beta <= 1:
        raise ValueError(f"alpha={alpha} must be below beta={beta}, both within 0..1")
    true_positive = ((1 - alpha) * gamma - (1 - beta) * nu) / (beta - alpha)
    false_positive = (beta * nu - alpha * gamma) / (beta - alpha)
    positives = beta * prevalence + (1 - prevalence) * alpha
    predicted = prevalence * gamma + (1 - prevalence) * nu
    spread = predicted * (1 - predicted)
    factor = sqrt(positives * (1 - positives) / spread) if spread > 0 else float("nan")
    return Corrected(
        mcc=factor * (true_positive - false_positive),
        balanced_accuracy=(1 + true_positive - false_positive) / 2,
        f1=2 * positives * true_positive / (positives + predicted),
    )


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
