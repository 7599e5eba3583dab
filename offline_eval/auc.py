"""AUC of a user: how often a relevant candidate stands above an irrelevant one, ties at half.

    win of a target = (irrelevant candidates below it + half of those tied with it) / N
    AUC of a user   = mean win of the user's targets that are candidates

N irrelevant candidates: what was excluded for the user (such as seen items) is in neither. No
target or N = 0 gives nan. A random order, and constant scores, give 1/2 in expectation. Equal to
scikit-learn's `roc_auc_score` a user. Wins are kept per target, so that AUC can be told on a part
of the targets: the others are then no rivals.

Shape suffixes: U users, F ranks of the list, V = num_items + 1 item columns, T targets, H hits.
"""

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth, match_targets
from offline_eval.metrics import Bools, Floats, Ints

MANY = 8
"""Targets a user from which sorting the user's scores is cheaper than reading them for each."""


def mean_of_targets(values_T: Floats, truth: Truth, kept_T: Bools) -> Floats:
    """Mean over each user's kept targets that have a value, (U,); nan where there is none."""
    known_T = kept_T & ~np.isnan(values_T)
    users = truth.users[known_T]
    sums_U = np.bincount(users, values_T[known_T], minlength=len(truth))
    return _share(sums_U, np.bincount(users, minlength=len(truth)))


def wins_of_lists(lists_UF: Ints, truth: Truth, candidates: Candidates) -> Floats:
    """(T,) win of each target in ordered lists that may be shorter than the candidates.

    What a list leaves out counts as tied, below the list: the expected value over all ways to go
    on. With all candidates listed this is the exact AUC of the order. A target that is no candidate
    has nan. Raises InputError for a list with more items than the user has candidates.
    """
    users_T = truth.users
    reachable_T = candidates.hold(users_T, truth.items)
    irrelevant_U = candidates.counts - np.bincount(users_T[reachable_T], minlength=len(truth))
    targets_H, ranks_H = match_targets(lists_UF, truth)
    order = np.lexsort([ranks_H, users_T[targets_H]])
    targets_H, ranks_H = targets_H[order], ranks_H[order]
    users_H = users_T[targets_H]
    found_U = np.bincount(users_H, minlength=len(truth))
    above_H = np.arange(len(users_H)) - (np.cumsum(found_U) - found_U)[users_H]
    unlisted_U = irrelevant_U - (np.count_nonzero(lists_UF, axis=1) - found_U)
    if (bad_U := np.flatnonzero(unlisted_U < 0)).size:
        u = bad_U[0]
        raise InputError(
            f"the list of row {u} holds {irrelevant_U[u] - unlisted_U[u]} irrelevant items, the "
            f"user has {irrelevant_U[u]} such candidates ({bad_U.size} lists are like this): does "
            "the list hold an excluded item?"
        )
    won_T = unlisted_U[users_T] / 2
    won_T[targets_H] = irrelevant_U[users_H] - (ranks_H - above_H)
    return np.where(reachable_T, _share(won_T, irrelevant_U[users_T]), np.nan)


def wins_of_scores(masked_UV: NDArray[np.float32], truth: Truth, candidates: Candidates) -> Floats:
    """(T,) win of each target by scores, higher better, -inf where `candidates` excludes.

    Column v is dense item id v. A target that is no candidate has nan.
    """
    users_T = truth.users
    scores_T = masked_UV[users_T, truth.items]
    reachable_T = candidates.hold(users_T, truth.items)
    below_T, tied_T = (np.zeros(len(users_T)) for _ in range(2))
    for user in np.unique(users_T[reachable_T]):
        rows = slice(truth.offsets[user], truth.offsets[user + 1])
        below_T[rows], tied_T[rows] = _compare(masked_UV[user], scores_T[rows])
    excluded_U = masked_UV.shape[1] - candidates.counts  # their -inf is no score
    lowest_T = scores_T == -np.inf
    below_T -= np.where(lowest_T, 0, excluded_U[users_T])
    tied_T -= np.where(lowest_T, excluded_U[users_T], 0)
    below_T -= _relevant(users_T, scores_T, reachable_T, ties=False)
    tied_T -= _relevant(users_T, scores_T, reachable_T, ties=True)
    irrelevant_U = candidates.counts - np.bincount(users_T[reachable_T], minlength=len(truth))
    wins_T = _share(below_T + tied_T / 2, irrelevant_U[users_T])
    return np.where(reachable_T, wins_T, np.nan)


def _compare(
    scores_V: NDArray[np.float32], targets: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many scores are below each target's, and how many equal it."""
    if len(targets) >= MANY:
        ordered_V = np.sort(scores_V)
        below = np.searchsorted(ordered_V, targets, "left")
        return below, np.searchsorted(ordered_V, targets, "right") - below
    below = np.array([np.count_nonzero(scores_V < target) for target in targets])
    return below, np.array([np.count_nonzero(scores_V == target) for target in targets])


def _relevant(
    users_T: Ints, scores_T: NDArray[np.float32], reachable_T: Bools, *, ties: bool
) -> NDArray[np.int64]:
    """Relevant candidates of the same user below each target's score, or tied with it (itself too).

    From one sort of all targets by user and score.
    """
    order = np.lexsort([scores_T, users_T])
    users, scores = users_T[order], scores_T[order]
    counted = np.concatenate([[0], np.cumsum(reachable_T[order])])
    new_user = np.append(True, users[1:] != users[:-1])[: len(users)]
    new_run = new_user | np.append(True, scores[1:] != scores[:-1])[: len(users)]
    user_starts, run_starts = np.flatnonzero(new_user), np.flatnonzero(new_run)
    run = np.cumsum(new_run) - 1
    if ties:
        run_ends = np.append(run_starts[1:], len(users))
        found = (counted[run_ends] - counted[run_starts])[run]
    else:
        first = user_starts[np.cumsum(new_user) - 1]
        found = counted[run_starts][run] - counted[first]
    result_T = np.zeros(len(users_T), np.int64)
    result_T[order] = found
    return result_T


def _share(won: Floats | Ints, pairs: Ints) -> Floats:
    share = np.full(len(won), np.nan)
    np.divide(won, pairs, out=share, where=pairs > 0)
    return share
