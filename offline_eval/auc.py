"""AUC of a user: how often a relevant candidate stands above an irrelevant one, ties at half.

    AUC = (pairs in the right order + half the tied pairs) / (R * N)

R relevant and N irrelevant items among the user's candidates: what was excluded for the user
(such as seen items) is in neither. R = 0 or N = 0 gives nan. A random order, and constant scores,
give 1/2 in expectation. Equal to scikit-learn's `roc_auc_score` a user.

Shape suffixes: U users, K ranks of the list, V item columns, T targets, H hits.
"""

import numpy as np

from offline_eval.candidates import Scores
from offline_eval.hits import Truth
from offline_eval.metrics import Bools, Floats, Ints, check_hits


def auc(hits_UK: Bools, listed_U: Ints, num_relevant_U: Ints, num_irrelevant_U: Ints) -> Floats:
    """AUC of ordered lists that may be shorter than the candidates.

    hits_UK: relevant item at this rank?  listed_U: items in each list.  num_relevant_U,
    num_irrelevant_U: all the user's candidates, listed or not. What a list leaves out counts as
    tied, below the list: the expected value over all ways to go on. With all candidates listed
    this is the exact AUC of the order.
    """
    check_hits(hits_UK, num_relevant_U)
    num_users, k = hits_UK.shape
    found_U = np.count_nonzero(hits_UK, axis=1)
    users_H, ranks_H = np.divmod(np.flatnonzero(hits_UK), max(k, 1))
    first_U = np.searchsorted(users_H, np.arange(num_users))
    hits_above_H = np.arange(len(users_H)) - first_U[users_H]
    irrelevant_below_H = num_irrelevant_U[users_H] - (ranks_H - hits_above_H)
    won_U = np.bincount(users_H, irrelevant_below_H, minlength=num_users)
    unlisted_U = num_irrelevant_U - (listed_U - found_U)
    if (unlisted_U < 0).any():
        u = int(np.argmax(unlisted_U < 0))
        raise ValueError(
            f"row {u} lists {listed_U[u] - found_U[u]} irrelevant items of "
            f"{num_irrelevant_U[u]}: does the list hold an excluded item?"
        )
    won_U = won_U + (num_relevant_U - found_U) * unlisted_U / 2
    return _share(won_U, num_relevant_U * num_irrelevant_U)


def auc_of_scores(scores_UV: Scores, truth: Truth, candidates_UV: Bools) -> Floats:
    """AUC from scores, higher better. Column v is dense item id v; column 0 is never a candidate.

    Targets that are no candidates do not count.
    """
    users_T, columns_T = truth.users, truth.items
    reachable_T = candidates_UV[users_T, columns_T]
    users_T, columns_T = users_T[reachable_T], columns_T[reachable_T]
    irrelevant_UV = candidates_UV.copy()
    irrelevant_UV[:, 0] = False
    irrelevant_UV[users_T, columns_T] = False
    rivals_UV = np.where(irrelevant_UV, scores_UV, np.nan)  # nan is neither below nor equal
    won_U = np.zeros(len(scores_UV))
    for user, column in zip(users_T, columns_T, strict=True):
        score, rivals_V = scores_UV[user, column], rivals_UV[user]
        below, tied = np.count_nonzero(rivals_V < score), np.count_nonzero(rivals_V == score)
        won_U[user] += below + tied / 2
    num_relevant_U = np.bincount(users_T, minlength=len(scores_UV))
    return _share(won_U, num_relevant_U * np.count_nonzero(irrelevant_UV, axis=1))


def _share(won_U: Floats, pairs_U: Ints) -> Floats:
    share_U = np.full(len(won_U), np.nan)
    np.divide(won_U, pairs_U, out=share_U, where=pairs_U > 0)
    return share_U
