"""What a system answered to a block of users, ready to be measured on any part of the targets.

`ListAnswer` for ordered lists, as a bundle serves them; `ScoreAnswer` for scores of the whole
catalogue, where ties count at their expected value. Columns are named `<metric>@<k>`, and `auc`.

Shape suffixes: U users, K ranks, V = num_items + 1 item columns, T targets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.auc import mean_of_targets, wins_of_lists, wins_of_scores
from offline_eval.best import Best, mask_scores
from offline_eval.candidates import Candidates, Scores
from offline_eval.hits import Truth, check_lists, find_hits
from offline_eval.metrics import (
    Bools,
    Floats,
    Ints,
    average_precision,
    hit_rate,
    mrr,
    ndcg,
    ndcg_of_full_list,
    precision,
    r_precision,
    recall,
)
from offline_eval.ties import EXPECTED, TiedRanks, tied_ranks

METRICS: Mapping[str, Callable[[Bools, Ints], Floats]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "ndcg_full": ndcg_of_full_list,
    "mrr": mrr,
    "map": average_precision,
    "r_precision": r_precision,
}
"""Of a list, at each cut-off; their expectations under ties are `ties.EXPECTED`."""


class Answer(Protocol):
    """One system's answer to a block of users."""

    @property
    def lists(self) -> NDArray[np.int64]:
        """(U, max(ks)) items, best first, padded with 0."""
        ...

    def values(
        self, kept_T: Bools | None = None, ks: Sequence[int] | None = None
    ) -> dict[str, Floats]:
        """Every metric per user, (U,), with the kept targets as the only relevant items.

        None keeps all, at all cut-offs. Targets left out are misses where listed, and no rivals in
        AUC.
        """
        ...


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """Ordered lists. `ListAnswer.of` is the way in."""

    lists: NDArray[np.int64]
    truth: Truth
    ks: Sequence[int]
    wins: Floats
    """(T,) share of irrelevant candidates below each target; nan for a target that is none."""

    @classmethod
    def of(
        cls, lists_UF: Ints, truth: Truth, candidates: Candidates, ks: Sequence[int]
    ) -> "ListAnswer":
        """Lists of at least max(ks) ranks, padded with 0; longer ones make AUC more exact.

        A target that is no candidate can never be listed: it is a miss in the metrics at k, and no
        part of AUC, which is about the order of the candidates. Raises InputError for lists that
        repeat an item, hold an excluded one, or are shorter than the cut-offs.
        """
        if lists_UF.shape[1] < max(ks):
            raise InputError(f"lists of {lists_UF.shape[1]} ranks cannot be cut at {max(ks)}")
        check_lists(lists_UF, candidates.num_items)
        _check_candidates(lists_UF[:, : max(ks)], candidates)
        wins_T = wins_of_lists(lists_UF, truth, candidates)
        return cls(lists_UF[:, : max(ks)].astype(np.int64), truth, ks, wins_T)

    def values(
        self, kept_T: Bools | None = None, ks: Sequence[int] | None = None
    ) -> dict[str, Floats]:
        """See `Answer`."""
        ks = self.ks if ks is None else ks
        kept_T = np.ones(len(self.truth.items), bool) if kept_T is None else kept_T
        part = self.truth.select(kept_T)
        hits_UK = find_hits(self.lists, part)
        values = {
            f"{name}@{k}": metric(hits_UK[:, :k], part.num_relevant)
            for name, metric in METRICS.items()
            for k in ks
        }
        return values | {"auc": mean_of_targets(self.wins, self.truth, kept_T)}


def _check_candidates(lists_UK: Ints, candidates: Candidates) -> None:
    users, ranks = np.nonzero(lists_UK)
    items = lists_UK[users, ranks]
    bad = np.flatnonzero(~candidates.hold(users, items))
    if bad.size:
        raise InputError(
            f"the list of row {users[bad[0]]} holds item {items[bad[0]]}, which is excluded for "
            f"that user ({bad.size} such places): lists and protocol disagree on seen items"
        )


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """Scores of the whole catalogue, of which only the best are kept. See `ScoreAnswer.of`."""

    best: Best
    truth: Truth
    ks: Sequence[int]
    scores: NDArray[np.float32]
    """(T,) score of each target, -inf where it is no candidate."""
    wins: Floats
    """(T,) as in `ListAnswer`."""

    @classmethod
    def of(
        cls,
        scores_UV: Scores,
        truth: Truth,
        candidates: Candidates,
        ks: Sequence[int],
        *,
        seed: int = 0,
    ) -> "ScoreAnswer":
        """Column v is dense item id v; an item with score -inf is never listed.

        Float32 scores are overwritten. The lists put ties in a random order (seed); the values are
        expectations over all orders. Raises InputError for nan or a wrong shape.
        """
        masked_UV = mask_scores(scores_UV, candidates)
        best = Best.of(masked_UV, max(ks), seed=seed)
        scores_T = masked_UV[truth.users, truth.items]
        return cls(best, truth, ks, scores_T, wins_of_scores(masked_UV, truth, candidates))

    @property
    def lists(self) -> NDArray[np.int64]:
        """See `Answer`."""
        return self.best.lists(max(self.ks))

    def values(
        self, kept_T: Bools | None = None, ks: Sequence[int] | None = None
    ) -> dict[str, Floats]:
        """See `Answer`."""
        ks = self.ks if ks is None else ks
        kept_T = np.ones(len(self.truth.items), bool) if kept_T is None else kept_T
        part = self.truth.select(kept_T)
        ranks = tied_ranks(self.best, part, self.scores[kept_T], max(ks))
        cuts: dict[int, TiedRanks] = {k: ranks.cut(k) for k in ks}
        values = {
            f"{name}@{k}": EXPECTED[name](cuts[k], part.num_relevant)
            for name in METRICS
            for k in ks
        }
        return values | {"auc": mean_of_targets(self.wins, self.truth, kept_T)}
