"""Ranking metrics of recommendation lists: one value a user, averaging is somebody else's job.

Shape suffixes: U users, K ranks of the list, best first, H hits.

Each function takes `hits_UK` (bool: is the item at this rank relevant?) and `num_relevant_U` (R:
all the user's relevant items, retrieved or not), so a cut-off is a slice, `hits[:, :k]`. A list
shorter than K is filled up with False: an empty rank is a miss. R = 0 gives nan everywhere: with
nothing to find the metric is undefined, and 0 would punish the model for an empty test set.
"""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


def check_hits(hits_UK: Bools, num_relevant_U: Ints) -> None:
    """Raise ValueError unless the pair can come from duplicate-free recommendation lists."""
    if hits_UK.ndim != 2 or num_relevant_U.shape != hits_UK.shape[:1]:
        shapes = f"{hits_UK.shape} and {num_relevant_U.shape}"
        raise ValueError(f"expected hits (U, K) and num_relevant (U,), got {shapes}")
    if hits_UK.dtype != np.bool_:
        raise ValueError(f"expected hits of type bool, got {hits_UK.dtype}")
    found_U = np.count_nonzero(hits_UK, axis=1)
    excess = np.flatnonzero(found_U > num_relevant_U)
    if excess.size:
        u = excess[0]
        raise ValueError(
            f"row {u} has {found_U[u]} hits but {num_relevant_U[u]} relevant items "
            f"({excess.size} such rows): does a recommendation list repeat an item?"
        )


def hit_rate(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """1 where at least one of the K items is relevant, else 0."""
    check_hits(hits_UK, num_relevant_U)
    return _over(np.count_nonzero(hits_UK, axis=1) > 0, num_relevant_U > 0)


def recall(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Hits divided by R. Below 1 even for a perfect list when R > K; with R = 1 it is hit_rate."""
    check_hits(hits_UK, num_relevant_U)
    return _over(np.count_nonzero(hits_UK, axis=1), num_relevant_U)


def precision(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Hits divided by K, the length asked for, also where the list was shorter."""
    check_hits(hits_UK, num_relevant_U)
    share_U = np.count_nonzero(hits_UK, axis=1) / hits_UK.shape[1]
    return _over(share_U, num_relevant_U > 0)


def ndcg(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Normalised discounted cumulative gain with binary gain (Järvelin & Kekäläinen, TOIS 2002).

        DCG  = sum over ranks r = 1..K of hit_r / log2(r + 1)
        IDCG = the same sum with a hit at each of the first min(K, R) ranks;  nDCG = DCG / IDCG

    R > K is capped, so a list of K hits scores 1.
    """
    check_hits(hits_UK, num_relevant_U)
    k = hits_UK.shape[1]
    discount_K = 1.0 / np.log2(np.arange(2, k + 2))
    best_dcg = np.cumsum(np.concatenate([[0.0], discount_K]))  # index: hits in the ideal list
    users_H, ranks_H = _positions(hits_UK)
    dcg_U = np.bincount(users_H, discount_K[ranks_H], minlength=len(hits_UK))
    return _over(dcg_U, best_dcg[np.minimum(num_relevant_U, k)])


def ndcg_of_full_list(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """DCG divided by that of K hits, however few relevant items there are: a stricter convention.

    With R = 1 it cannot exceed 1 / sum of the discounts. Some libraries call this nDCG (RecTools
    without `divide_by_achievable`); for R >= K it equals `ndcg`.
    """
    reached_U = ndcg(hits_UK, num_relevant_U)
    discount_K = 1.0 / np.log2(np.arange(2, hits_UK.shape[1] + 2))
    best_dcg = np.cumsum(discount_K)
    ideal_U = best_dcg[np.clip(num_relevant_U, 1, len(best_dcg)) - 1]
    return reached_U * ideal_U / best_dcg[-1]


def r_precision(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Hits among the first R ranks, divided by R. Lists shorter than R give nan: unknown."""
    check_hits(hits_UK, num_relevant_U)
    k = hits_UK.shape[1]
    users_H, ranks_H = _positions(hits_UK)
    early_H = ranks_H < num_relevant_U[users_H]
    found_U = np.bincount(users_H[early_H], minlength=len(hits_UK))
    return _over(found_U, np.where(num_relevant_U <= k, num_relevant_U, 0))


def mrr(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Reciprocal rank: 1 / r of the first hit (r = 1 is the top), 0 where the list has none."""
    check_hits(hits_UK, num_relevant_U)
    first_U = hits_UK.argmax(axis=1)
    return _over(hits_UK.any(axis=1) / (first_U + 1), num_relevant_U > 0)


def average_precision(hits_UK: Bools, num_relevant_U: Ints) -> Floats:
    """Average precision; its mean over users is MAP.

        AP = sum over ranks r of hit_r * (hits among the first r) / r, divided by min(K, R)

    R > K is capped, so a list of K hits scores 1. (trec_eval's `map_cut` divides by R.)
    """
    check_hits(hits_UK, num_relevant_U)
    num_users, k = hits_UK.shape
    users_H, ranks_H = _positions(hits_UK)
    first_U = np.searchsorted(users_H, np.arange(num_users))  # where each user's hits begin
    count_H = np.arange(len(users_H)) - first_U[users_H] + 1
    total_U = np.bincount(users_H, count_H / (ranks_H + 1), minlength=num_users)
    return _over(total_U, np.minimum(num_relevant_U, k))


def _positions(hits_UK: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """User and 0-based rank of each hit, in order. Hits are few, so the sums run over them."""
    positions_H = np.flatnonzero(hits_UK)
    users_H, ranks_H = np.divmod(positions_H, max(hits_UK.shape[1], 1))
    return users_H, ranks_H


def _over(numerator_U: NDArray, denominator_U: NDArray) -> Floats:
    """The quotient, nan where the denominator is 0."""
    values_U = np.full(len(numerator_U), np.nan)
    np.divide(numerator_U, denominator_U, out=values_U, where=denominator_U > 0)
    return values_U
