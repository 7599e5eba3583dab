"""Candidates, then a ranker: what each stage can reach, and where it loses relevant items.

Shape suffixes: U users, C candidates (dense item ids, 0 padding), K ranks, T targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offline_eval.hits import Truth, find_hits, find_targets
from offline_eval.metrics import Bools, Floats, Ints, ndcg, recall

UNION = "all sources"
FATES = ("cannot be listed: seen", "no source proposed it", "proposed, ranked too low", "listed")
"""What can happen to a target, in the order of the stages."""


@dataclass(frozen=True, slots=True)
class CandidateValues:
    """Per user, what a ranker of these candidates could reach."""

    recalls: Mapping[str, Floats]
    """Share of the targets among the candidates of each source, and of all (`UNION`)."""
    oracle_ndcg: Floats
    """nDCG at k with all relevant candidates on top: no ranker can do better."""
    is_found: Bools
    """(T,) whether each target is among the candidates."""


def measure_candidates(
    items_UC: Ints, proposed: Mapping[str, Bools], truth: Truth, k: int
) -> CandidateValues:
    """Measure the union of the sources' candidates.

    proposed: by source, (U, C), whether it proposed the candidate.
    """
    hits_UC = find_hits(items_UC, truth)
    relevant_U = truth.num_relevant
    recalls = {name: recall(hits_UC & by_UC, relevant_U) for name, by_UC in proposed.items()}
    found_U = np.count_nonzero(hits_UC, axis=1)
    best_UK = np.arange(k) < found_U[:, None]
    return CandidateValues(
        {UNION: recall(hits_UC, relevant_U), **recalls},
        ndcg(best_UK, relevant_U),
        find_targets(items_UC, truth),
    )


def count_fates(reachable_T: Bools, found_T: Bools, listed_T: Bools) -> dict[str, int]:
    """How many targets ended where, by `FATES`.

    reachable_T: a candidate of the protocol. found_T: among the proposals. listed_T: among the
    first k of the answer; a target may be listed without having been proposed, where the list was
    filled up beyond the ranked part.
    """
    fate_T = np.where(listed_T, 3, np.where(found_T, 2, np.where(reachable_T, 1, 0)))
    counts = np.bincount(fate_T, minlength=len(FATES))
    return dict(zip(FATES, counts.tolist(), strict=True))
