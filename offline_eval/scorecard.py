"""Recommendation lists -> every metric at every cut-off, one value a user.

Columns are named `<metric>@<k>`, and `auc`. Works on blocks of users: the values are all that a
caller need keep.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.auc import auc, auc_of_scores
from offline_eval.candidates import Candidates, Scores, top_lists
from offline_eval.hits import Truth, check_lists, find_hits
from offline_eval.metrics import (
    Bools,
    Floats,
    Ints,
    average_precision,
    hit_rate,
    mrr,
    ndcg,
    recall,
)
from offline_eval.ties import EXPECTED, tied_ranks

METRICS: Mapping[str, Callable[[Bools, Ints], Floats]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}


def score_lists(
    lists_UK: Ints, truth: Truth, candidates: Candidates, ks: Sequence[int]
) -> dict[str, Floats]:
    """Values per user of lists of at least max(ks) ranks, padded with 0.

    A target that is no candidate can never be listed: it is a miss in the metrics at k, and no
    part of AUC, which is about the order of the candidates. Raises InputError for lists that
    repeat an item, hold an excluded one, or are shorter than the cut-offs.
    """
    if lists_UK.shape[1] < max(ks):
        raise InputError(f"lists of {lists_UK.shape[1]} ranks cannot be cut at {max(ks)}")
    check_lists(lists_UK, candidates.num_items)
    _check_candidates(lists_UK[:, : max(ks)], candidates)
    hits_UK = find_hits(lists_UK, truth)
    values = {
        f"{name}@{k}": metric(hits_UK[:, :k], truth.num_relevant)
        for name, metric in METRICS.items()
        for k in ks
    }
    reachable = truth.select(candidates.hold(truth.users, truth.items)).num_relevant
    listed = np.count_nonzero(lists_UK, axis=1)
    values["auc"] = auc(hits_UK, listed, reachable, candidates.counts - reachable)
    return values


def _check_candidates(lists_UK: Ints, candidates: Candidates) -> None:
    users, ranks = np.nonzero(lists_UK)
    items = lists_UK[users, ranks]
    bad = np.flatnonzero(~candidates.hold(users, items))
    if bad.size:
        raise InputError(
            f"the list of row {users[bad[0]]} holds item {items[bad[0]]}, which is excluded for "
            f"that user ({bad.size} such places): lists and protocol disagree on seen items"
        )


def score_scores(
    scores_UV: Scores, truth: Truth, candidates: Candidates, ks: Sequence[int], *, seed: int = 0
) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Values per user of scores (column v is dense item id v), and the lists of max(ks) items.

    Ties are in random order in the lists; the values are expectations over all their orders.
    """
    ranks = tied_ranks(scores_UV, truth, candidates, max(ks))
    values = {
        f"{name}@{k}": EXPECTED[name](ranks.cut(k), truth.num_relevant)
        for name in METRICS
        for k in ks
    }
    values["auc"] = auc_of_scores(scores_UV, truth, candidates.mask())
    return values, top_lists(scores_UV, candidates, max(ks), seed=seed)
