"""Metrics of scores with ties: the expected value when equal scores are put in random order.

A deterministic order of ties tells a story about item ids, not about the model; one random order
adds noise. The expectation has a closed form (after McSherry & Najork, ECIR 2008), so constant
scores get exactly what a random list gets. Without ties each function equals its namesake in
`offline_eval.metrics`.

Shape suffixes: U users, K ranks, V = num_items + 1 item columns, T targets. A tie group is a run of
equally scored candidates; it may go on below rank K.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_eval.best import NOWHERE, Best
from offline_eval.hits import BLOCK, Truth
from offline_eval.metrics import Floats, Ints


@dataclass(frozen=True, slots=True)
class TiedRanks:
    """The tie group that each rank of a user's list falls in. Arrays are (U, K)."""

    size: NDArray[np.int64]
    """Candidates in the group."""
    relevant: NDArray[np.int64]
    """Relevant ones among them."""
    place: NDArray[np.int64]
    """Ranks of the same group above this one."""
    above: NDArray[np.int64]
    """Relevant candidates in the groups above."""

    def cut(self, k: int) -> "TiedRanks":
        """The first k ranks."""
        return TiedRanks(
            self.size[:, :k], self.relevant[:, :k], self.place[:, :k], self.above[:, :k]
        )

    @property
    def chances(self) -> Floats:
        """Probability of a relevant item at each rank."""
        return self.relevant / self.size

    @property
    def survival(self) -> Floats:
        """Probability that neither this rank nor one above it holds a relevant item."""
        left_UK = self.size - self.place  # of the group, when this rank is drawn
        passed_UK = np.maximum(1 - self.relevant / left_UK, 0.0)
        return np.cumprod(passed_UK, axis=1, dtype=np.float64)


def tied_ranks(best: Best, truth: Truth, scores_T: NDArray[np.float32], k: int) -> TiedRanks:
    """The tie groups of the best k candidates. scores_T: of each target, -inf where it is none.

    `best` must hold at least k ranks, unless a user has fewer candidates.
    """
    num_users = len(best.items)
    best_UK = np.full((num_users, k), np.float32(NOWHERE))
    found_UK = best.scores[:, :k]
    best_UK[:, : found_UK.shape[1]] = found_UK
    starts_UK = np.ones((num_users, k), bool)
    starts_UK[:, 1:] = best_UK[:, 1:] != best_UK[:, :-1]
    ranks_UK = np.broadcast_to(np.arange(k), starts_UK.shape)
    first_UK = np.maximum.accumulate(np.where(starts_UK, ranks_UK, 0), axis=1)
    size_UK = _sizes(best, best_UK, first_UK)
    listed_UK = best_UK > NOWHERE
    targets, ranks = _places(best_UK, truth.users, scores_T)
    cells = truth.users[targets] * k + ranks
    relevant_UK = np.bincount(cells, minlength=num_users * k).reshape(num_users, k) * listed_UK
    running_UK = np.cumsum(np.where(starts_UK, relevant_UK, 0), axis=1)
    return TiedRanks(
        np.where(listed_UK, size_UK, 1),
        relevant_UK,
        np.where(listed_UK, ranks_UK - first_UK, 0),
        running_UK - relevant_UK,
    )


def _places(
    best_UK: NDArray[np.float32], users_T: Ints, scores_T: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Target and rank of every rank that scores like the target, in blocks of bounded memory."""
    targets, ranks = [], []
    for start in range(0, len(users_T), BLOCK):
        rows = slice(start, start + BLOCK)
        found, places = np.nonzero(best_UK[users_T[rows]] == scores_T[rows, None])
        targets.append(found + start)
        ranks.append(places)
    nothing = [np.zeros(0, np.intp)]
    return np.concatenate(targets or nothing), np.concatenate(ranks or nothing)


def _sizes(best: Best, best_UK: NDArray[np.float32], first_UK: Ints) -> NDArray[np.int64]:
    """Candidates that share the score at each rank; only the last group can pass rank K."""
    num_users, k = best_UK.shape
    cells_UK = first_UK + np.arange(num_users)[:, None] * k
    counts = np.bincount(cells_UK.ravel(), minlength=num_users * k)
    size_UK = counts[cells_UK]
    whole_U = np.count_nonzero(best.scores == best_UK[:, -1:], axis=1)
    in_last_UK = first_UK == first_UK[:, -1:]
    return np.where(in_last_UK, whole_U[:, None], size_UK)


def expected_hit_rate(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Probability that at least one of the K items is relevant."""
    return _defined(1 - ranks.survival[:, -1], num_relevant_U)


def expected_recall(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected hits divided by R."""
    return _defined(ranks.chances.sum(axis=1) / np.maximum(num_relevant_U, 1), num_relevant_U)


def expected_precision(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected hits divided by K."""
    return _defined(ranks.chances.mean(axis=1), num_relevant_U)


def expected_ndcg(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected nDCG: the gain is a sum over ranks, so chances stand in for hits."""
    k = ranks.size.shape[1]
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    best_dcg = np.concatenate([[1.0], np.cumsum(discount_K)])
    ideal_U = best_dcg[np.minimum(num_relevant_U, k)]
    return _defined(ranks.chances @ discount_K / ideal_U, num_relevant_U)


def expected_ndcg_of_full_list(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected DCG divided by that of K hits."""
    discount_K = 1 / np.log2(np.arange(2, ranks.size.shape[1] + 2))
    return _defined(ranks.chances @ discount_K / discount_K.sum(), num_relevant_U)


def expected_r_precision(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected hits among the first R ranks, divided by R; nan where K is below R."""
    k = ranks.size.shape[1]
    early_UK = np.arange(k) < num_relevant_U[:, None]
    found_U = (ranks.chances * early_UK).sum(axis=1) / np.maximum(num_relevant_U, 1)
    return np.where(num_relevant_U <= k, _defined(found_U, num_relevant_U), np.nan)


def expected_mrr(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected 1 / r of the first hit: survival falls at r by the chance that r is the first."""
    survival_UK = ranks.survival
    before_UK = np.concatenate([np.ones((len(survival_UK), 1)), survival_UK[:, :-1]], axis=1)
    first_UK = before_UK - survival_UK
    return _defined(first_UK @ (1 / np.arange(1, first_UK.shape[1] + 1)), num_relevant_U)


def expected_average_precision(ranks: TiedRanks, num_relevant_U: Ints) -> Floats:
    """Expected AP. Given a hit at place j of its group, the j places above it hold each of the
    other m - 1 relevant ones with chance (m - 1) / (n - 1).
    """
    others_UK = (ranks.relevant - 1) / np.maximum(ranks.size - 1, 1)
    count_UK = ranks.above + 1 + ranks.place * others_UK
    k = count_UK.shape[1]
    total_U = (ranks.chances * count_UK) @ (1 / np.arange(1, k + 1))
    return _defined(total_U / np.clip(num_relevant_U, 1, k), num_relevant_U)


EXPECTED: Mapping[str, Callable[[TiedRanks, Ints], Floats]] = {
    "hit_rate": expected_hit_rate,
    "recall": expected_recall,
    "precision": expected_precision,
    "ndcg": expected_ndcg,
    "ndcg_full": expected_ndcg_of_full_list,
    "mrr": expected_mrr,
    "map": expected_average_precision,
    "r_precision": expected_r_precision,
}
"""By the names of `answers.METRICS`."""


def _defined(values_U: Floats, num_relevant_U: Ints) -> Floats:
    """Nan where there is nothing to find."""
    return np.where(num_relevant_U > 0, values_U, np.nan)
