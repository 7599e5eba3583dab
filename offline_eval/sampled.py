"""Metrics against sampled negatives, as some papers report them. NOT the metrics of full ranking.

A target among 100 random items is easy to rank first, and which of two models wins can change with
the sample's size (Krichene & Rendle, KDD 2020). Here for comparison with such papers only: names
say `among_<n>_sampled`, and each call warns.

Shape suffixes: U users, V = num_items + 1 item columns, T targets, N negatives.
"""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.auc import mean_of_targets
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth
from offline_eval.metrics import Floats

log = logging.getLogger(__name__)


def sampled_metrics(
    masked_UV: NDArray[np.float32],
    truth: Truth,
    candidates: Candidates,
    ks: Sequence[int],
    *,
    negatives: int = 100,
    seed: int = 0,
) -> dict[str, Floats]:
    """Mean over a user's targets, each ranked among `negatives` irrelevant candidates, (U,).

    Names: `hit_rate@10_among_100_sampled`, `ndcg@...`, `mrr_among_100_sampled`. The negatives are
    drawn uniformly with replacement from the user's candidates that are no targets; ties count at
    their expected value. masked_UV: as by `best.mask_scores`. A user without a reachable target has
    nan. Raises InputError where a user has no irrelevant candidate to draw.
    """
    name = f"among_{negatives}_sampled"
    log.warning(
        "metrics %s are not those of full ranking: they are higher, and may order models "
        "differently (Krichene & Rendle 2020)",
        name,
    )
    rng = np.random.default_rng(seed)
    users_T = truth.users
    drawn_TN = rng.integers(1, masked_UV.shape[1], (len(users_T), negatives))
    users = np.repeat(users_T, negatives)
    bad = np.zeros(drawn_TN.shape, bool)
    for _ in range(1_000):
        bad = ~_irrelevant(users, drawn_TN.ravel(), truth, candidates).reshape(drawn_TN.shape)
        if not bad.any():
            break
        drawn_TN[bad] = rng.integers(1, masked_UV.shape[1], int(bad.sum()))
    else:
        rows = np.unique(users_T[bad.any(axis=1)])
        raise InputError(
            f"{len(rows)} users have (almost) no irrelevant candidate to draw, first row {rows[0]}"
        )
    own_T = masked_UV[users_T, truth.items]
    drawn_scores_TN = masked_UV[users_T[:, None], drawn_TN]
    above_T = (drawn_scores_TN > own_T[:, None]).sum(axis=1)
    tied_T = (drawn_scores_TN == own_T[:, None]).sum(axis=1)
    reachable_T = candidates.hold(users_T, truth.items)

    def expected(gain_R: NDArray[np.floating]) -> Floats:
        """Mean gain over the ranks above + 0..tied that a random order of the ties allows."""
        total_R = np.concatenate([[0.0], np.cumsum(gain_R)])
        gains_T = (total_R[above_T + tied_T + 1] - total_R[above_T]) / (tied_T + 1)
        return mean_of_targets(np.where(reachable_T, gains_T, np.nan), truth, reachable_T)

    ranks_R = np.arange(1, negatives + 2)
    values = {f"mrr_{name}": expected(1 / ranks_R)}
    for k in ks:
        values[f"hit_rate@{k}_{name}"] = expected(np.where(ranks_R <= k, 1.0, 0.0))
        values[f"ndcg@{k}_{name}"] = expected(
            np.where(ranks_R <= k, 1 / np.log2(ranks_R + 1.0), 0.0)
        )
    return values


def _irrelevant(
    users: NDArray[np.int64], items: NDArray[np.int64], truth: Truth, candidates: Candidates
) -> NDArray[np.bool_]:
    """Whether each pair is a candidate and no target."""
    width = candidates.num_items + 1
    targets = truth.users * width + truth.items  # sorted, as the truth is
    keys = users * width + items
    found = np.minimum(np.searchsorted(targets, keys), max(len(targets) - 1, 0))
    return candidates.hold(users, items) & (targets[found] != keys)
