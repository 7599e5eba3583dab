"""How widely, how unexpectedly and how differently a system recommends; one value a user.

Shape suffixes: U users, K ranks of the list (dense item ids, 0 for empty ranks), V = num_items + 1
item columns, D width of an item vector.
"""

import numpy as np
from numpy.typing import NDArray

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


def intra_list_diversity(lists_UK: Ints, vectors_VD: NDArray[np.floating]) -> Floats:
    """Mean of 1 - cosine over the pairs of items in a list (Ziegler et al., WWW 2005).

    Needs no pair loop: the sum of all cosines is the squared length of the sum of unit vectors.
    Items without a vector (all 0) are unlike everything. Fewer than two items give nan.
    """
    lengths = np.linalg.norm(vectors_VD, axis=1, keepdims=True)
    units_VD = np.divide(vectors_VD, lengths, out=np.zeros_like(vectors_VD), where=lengths > 0)
    units_VD[0] = 0
    sums_UD = np.zeros((len(lists_UK), units_VD.shape[1]))
    for items_U in lists_UK.T:  # ranks are few; (U, K, D) would be large
        sums_UD += units_VD[items_U]
    own_U = (np.einsum("vd,vd->v", units_VD, units_VD)[lists_UK]).sum(axis=1)
    shown_U = np.count_nonzero(lists_UK, axis=1)
    pairs_U = shown_U * (shown_U - 1)
    cosines_U = np.einsum("ud,ud->u", sums_UD, sums_UD) - own_U
    mean_U = np.full(len(lists_UK), np.nan)
    np.divide(cosines_U, pairs_U, out=mean_U, where=pairs_U > 0)
    return 1 - mean_U


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
