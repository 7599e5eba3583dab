"""What the bundle's search loses against exact search over the model's own vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from serving.block import Block
from serving.index import REFINE, ApproximateIndex
from serving.manifest import IndexRecall
from serving.model_source import ModelSource
from serving.policy import Policy
from serving.topk import top_k

REFINES = (4, 8, 12, 20, 40)
"""Candidates compared at half precision per result asked for, from the quickest."""
ENOUGH = 0.985
"""Recall at which the quickest is taken."""
QUERIES = 500
"""Histories asked, at most."""


def measure_recall(
    source: ModelSource, vectors_VD: NDArray[np.float32], histories: Histories, ks: Sequence[int]
) -> tuple[IndexRecall, ...]:
    """Share of the exact top k (float32 vectors, nothing left out) that the source's index finds.

    vectors_VD: (N + 1, D), row 0 is padding. The index holds them rounded to half precision, so
    the loss is that of rounding and, for large catalogues, of the approximate search.
    """
    rows = np.flatnonzero(histories.ends > histories.starts)
    rows = rows[np.linspace(0, len(rows) - 1, min(QUERIES, len(rows))).astype(np.int64)]
    asked = histories.take(rows)
    if not len(asked):
        return ()
    num_items = len(vectors_VD) - 1
    queries_BD = source.encode(asked)
    ks = sorted({min(k, num_items) for k in ks})
    exact = np.concatenate([_exact(vectors_VD, query_D, ks[-1]) for query_D in queries_BD])
    found = _found(source, queries_BD, asked, num_items, ks[-1])
    results = []
    for k in ks:
        shared = [np.isin(a[:k], b[:k]).mean() for a, b in zip(exact, found, strict=True)]
        results.append(
            IndexRecall(
                source=source.name,
                index=source.index.description,
                k=k,
                queries=len(asked),
                recall=float(np.mean(shared)),
            )
        )
    return tuple(results)


def tune_refine(
    source: ModelSource, vectors_VD: NDArray[np.float32], histories: Histories, k: int
) -> int:
    """The quickest setting with which the source's index finds enough of the exact top k; the
    source searches with it from then on. 0, all items at half precision, where quantisation cannot
    tell the vectors apart (a few of them much longer than the rest). Of an exact index the default,
    which changes nothing.
    """
    if not isinstance(source.index, ApproximateIndex):
        return REFINE
    for refine in REFINES:
        source.index = source.index.refined(refine)
        measured = measure_recall(source, vectors_VD, histories, (k,))
        if not measured or measured[0].recall >= ENOUGH:
            return refine
    source.index = ApproximateIndex(source.vectors_VD, 0)
    return 0


def _exact(vectors_VD: NDArray[np.float32], query_D: NDArray, k: int) -> NDArray[np.int64]:
    scores_V = vectors_VD @ query_D
    scores_V[0] = -np.inf
    return top_k(scores_V[None], k)[0]


def _found(
    source: ModelSource, queries_BD: NDArray, asked: Histories, num_items: int, k: int
) -> NDArray[np.int64]:
    policy = Policy(exclude_seen=False)
    parts = []
    for row in range(len(asked)):
        one = Block.of(asked.take(slice(row, row + 1)), np.zeros(1, np.int64), num_items)
        parts.append(source.index.search(queries_BD[row : row + 1], one, policy, k).items)
    return np.concatenate(parts)
