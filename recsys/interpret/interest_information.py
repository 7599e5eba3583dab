"""What past events really say about a click: mutual information, and lists judged by it.

The ground truth of DARE's analysis (arXiv 2410.02604, Sec. 2.2; `analysis/` of thuml/DARE): for a
target value c, a behaviour value b and a recency rank p, the mutual information, in bits, between
"an event of value b stands at rank p" and the label, over candidates of value c. It knows no model.

Shape suffixes: R rows (a candidate after its history), T values of targets, V values of behaviours,
P recency ranks (index 0: the newest event), K places of a list.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EMPTY = 1e-5
"""Stands in for a count of zero, as in the reference."""


def mutual_information(counts_22: Floats) -> Floats:
    """Bits that two binary events share, (...,), from counts (..., 2, 2).

    sum p(x, y) log2(p(x, y) / (p(x) p(y))). A count of zero is taken as 1e-5.
    """
    counts_22 = np.where(counts_22 > 0, counts_22, EMPTY)
    joint_22 = counts_22 / counts_22.sum((-2, -1), keepdims=True)
    apart_22 = joint_22.sum(-1, keepdims=True) * joint_22.sum(-2, keepdims=True)
    return (joint_22 * np.log2(joint_22 / apart_22)).sum((-2, -1))


@dataclass(frozen=True, slots=True)
class Cooccurrence:
    """How often a behaviour stood at a rank, by the candidate's value and the label."""

    present: Floats
    """Rows with the event, (2, T, V, P): label 0 first."""
    rows: Floats
    """All rows, (2, T)."""

    @classmethod
    def count(
        cls, targets_RT: NDArray, behaviours_RVP: NDArray, labels_R: NDArray[np.bool_]
    ) -> "Cooccurrence":
        """From indicators (0 or 1): values of each row's candidate, and of its history's events."""
        present, rows = [], []
        flat = behaviours_RVP.reshape(len(behaviours_RVP), -1).astype(np.float32)
        for label in (False, True):
            mine = labels_R == label
            counts = targets_RT[mine].astype(np.float32).T @ flat[mine]
            present.append(counts.reshape(-1, *behaviours_RVP.shape[1:]))
            rows.append(targets_RT[mine].sum(0))
        return cls(np.stack(present).astype(np.float64), np.stack(rows).astype(np.float64))

    def __add__(self, other: "Cooccurrence") -> "Cooccurrence":
        return Cooccurrence(self.present + other.present, self.rows + other.rows)

    def information(self) -> Floats:
        """Mutual information (T, V, P), bits."""
        absent_2TVP = self.rows[:, :, None, None] - self.present
        return mutual_information(
            np.stack([absent_2TVP, self.present], -1).transpose(1, 2, 3, 0, 4)
        )

    def frequent(self, rows: int) -> NDArray[np.bool_]:
        """Values of targets, (T,), with at least `rows` candidates."""
        return self.rows.sum(0) >= rows


def ranking_ndcg(gains_L: Floats, scores_L: Floats, k: int) -> float:
    """NDCG@k of the order by score: linear gains, discount 1 / log2(rank + 1); nan without gain.

    Equal scores share their gains, so that the order of the log decides nothing.
    """
    discount_K = 1 / np.log2(np.arange(2, min(k, len(gains_L)) + 2))
    best = float(np.sort(gains_L)[::-1][: len(discount_K)] @ discount_K)
    if best <= 0:
        return float("nan")
    _, tie_L, size = np.unique(-scores_L, return_inverse=True, return_counts=True)
    shared_L = np.bincount(tie_L, gains_L) / size
    order = np.argsort(-scores_L, kind="stable")[: len(discount_K)]
    return float(shared_L[tie_L[order]] @ discount_K) / best
