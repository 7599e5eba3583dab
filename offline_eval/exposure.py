"""How widely, how unexpectedly and how differently a system recommends; one value a user.

Shape suffixes: U users, K ranks of the list (dense item ids, 0 for empty ranks), V = num_items + 1
item columns, D width of an item vector.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from offline_eval.candidates import Candidates
from offline_eval.metrics import Bools, Floats, Ints


def gini(counts_V: Ints) -> float:
    """Inequality of exposure: 0 all items shown equally often, near 1 a single item shown.

        G = sum over items in ascending order of count, i = 1..N, of (2i - N - 1) * count_i,
            divided by N * sum of the counts

    counts_V: how often each item was recommended, column 0 ignored. Items never shown count; no
    recommendation at all gives nan.
    """
    ordered = np.sort(counts_V[1:])
    total, num_items = ordered.sum(), len(ordered)
    if not total:
        return float("nan")
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float((weights * ordered).sum() / (num_items * total))


def novelty(lists_UK: Ints, interactions_V: Ints) -> Floats:
    """Mean self-information, in bits, of the items shown: -log2 of their share of interactions.

    Zhou et al., PNAS 2010. interactions_V: training events of each item; every item is given one
    more, so that an item without any is very novel and not infinitely so. An empty list gives nan.
    """
    smoothed_V = interactions_V[1:] + 1.0
    bits_V = np.concatenate([[0.0], -np.log2(smoothed_V / smoothed_V.sum())])
    return _mean_shown(bits_V, lists_UK)


def popularity_bias(lists_UK: Ints, interactions_V: Ints) -> Floats:
    """Mean training events of the items shown, divided by those of an average item.

    1 is a catalogue shown evenly; average recommendation popularity (Abdollahpouri et al., FLAIRS
    2019) in units of the mean. An empty list gives nan.
    """
    relative_V = interactions_V / interactions_V[1:].mean()
    relative_V[0] = 0.0
    return _mean_shown(relative_V, lists_UK)


def intra_list_diversity(lists_UK: Ints, vectors_VD: NDArray[np.floating] | csr_matrix) -> Floats:
    """Mean of 1 - cosine over the pairs of items in a list (Ziegler et al., WWW 2005).

    Needs no pair loop: the sum of all cosines is the squared length of the sum of unit vectors.
    Items without a vector (all 0) are unlike everything. Fewer than two items give nan. Dense or
    sparse vectors; row 0 is padding.
    """
    vectors = csr_matrix(vectors_VD, dtype=np.float64)
    num_rows = int(vectors.indptr.size) - 1
    squares_V = row_squares(vectors)
    scale_V = np.zeros(len(squares_V))
    np.divide(1.0, np.sqrt(squares_V), out=scale_V, where=squares_V > 0)
    scale_V[0] = 0.0
    users = np.repeat(np.arange(len(lists_UK)), lists_UK.shape[1])
    items = lists_UK.ravel()
    shape = (len(lists_UK), num_rows)
    sums = csr_matrix(csr_matrix((scale_V[items], (users, items)), shape) @ vectors)
    own_U = (scale_V[lists_UK] > 0).sum(axis=1)
    shown_U = np.count_nonzero(lists_UK, axis=1)
    pairs_U = shown_U * (shown_U - 1)
    cosines_U = row_squares(sums) - own_U
    mean_U = np.full(len(lists_UK), np.nan)
    np.divide(cosines_U, pairs_U, out=mean_U, where=pairs_U > 0)
    return 1 - mean_U


def row_squares(matrix: csr_matrix) -> Floats:
    """Squared length of each row."""
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    squares = np.bincount(rows, matrix.data**2, minlength=len(matrix.indptr) - 1)
    return squares.astype(np.float64)


def popular_lists(interactions_V: Ints, candidates: Candidates, k: int) -> NDArray[np.int64]:
    """The k items with most training events among each user's candidates, (U, k): what is obvious.

    Equal counts stand in order of id. Padded with 0 where a user has fewer candidates.
    """
    order = np.argsort(-interactions_V[1:], kind="stable") + 1
    excluded_U = candidates.num_items - candidates.counts
    order = order[: k + int(excluded_U.max(initial=0))]
    users = np.repeat(np.arange(candidates.num_users), len(order))
    items = np.tile(order, candidates.num_users)
    kept_UW = candidates.hold(users, items).reshape(candidates.num_users, -1)
    rank_UW = np.cumsum(kept_UW, axis=1)
    users, places = np.nonzero(kept_UW & (rank_UW <= k))
    lists_UK = np.zeros((candidates.num_users, k), np.int64)
    lists_UK[users, rank_UW[users, places] - 1] = order[places]
    return lists_UK


def serendipity(hits_UK: Bools, lists_UK: Ints, obvious_UK: Ints) -> Floats:
    """Share of the K ranks that hold a relevant item which an obvious list would not have shown.

    After Ge et al., RecSys 2010. obvious_UK: the lists of a plain system, usually popularity.
    """
    surprising_UK = np.ones(lists_UK.shape, bool)
    for items_U in obvious_UK.T:
        surprising_UK &= lists_UK != items_U[:, None]
    return (hits_UK & surprising_UK).mean(axis=1)


def _mean_shown(values_V: Floats, lists_UK: Ints) -> Floats:
    shown_U = np.count_nonzero(lists_UK, axis=1)
    mean_U = np.full(len(lists_UK), np.nan)
    np.divide(values_V[lists_UK].sum(axis=1), shown_U, out=mean_U, where=shown_U > 0)
    return mean_U
