"""What the sources propose, and their union.

Shape suffixes: B histories, S sources, K proposals of one source, M of all, C distinct ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.policy import Policy
from serving.topk import NOTHING, Floats, Ints, top_k


@dataclass(frozen=True, slots=True)
class Proposals:
    """One source's list for each history, best first.

    items: (B, K) dense ids, 0 where there is no more. scores: (B, K), -inf there.
    """

    items: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class Candidates:
    """The distinct proposals of all sources, in order of priority, then of the source's rank.

    items: (B, C) dense ids, 0 padding on the right. sources: (B, C) number of the first source
    that proposed the item. scores: (B, C) that source's score, -inf for padding.
    source_scores: by name of the source, (B, C), nan where it did not propose the item.
    """

    items: Ints
    sources: NDArray[np.uint8]
    scores: Floats
    source_scores: Mapping[str, Floats]
    skipped: tuple[str, ...] = ()
    """Sources that were not asked: there was no time."""


def first_occurrences(items_BM: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which entries are the first of their item in their row (padding never is), and for each
    entry the position of that first one, (B, M).
    """
    order_BM = np.argsort(items_BM, axis=1, kind="stable")
    sorted_BM = np.take_along_axis(items_BM, order_BM, axis=1)
    new_BM = np.ones(items_BM.shape, np.bool_)
    new_BM[:, 1:] = sorted_BM[:, 1:] != sorted_BM[:, :-1]
    place_BM = np.where(new_BM, np.arange(items_BM.shape[1]), 0)
    lead_BM = np.take_along_axis(order_BM, np.maximum.accumulate(place_BM, axis=1), axis=1)
    first_BM = np.empty_like(order_BM)
    np.put_along_axis(first_BM, order_BM, lead_BM, axis=1)
    return (first_BM == np.arange(items_BM.shape[1])) & (items_BM != 0), first_BM


def unite(names: Sequence[str], asked: Sequence[Proposals | None]) -> Candidates:
    """The union of the sources' proposals, None for one that was not asked; `names` in order of
    priority. At least one was asked.
    """
    skipped = tuple(name for name, one in zip(names, asked, strict=True) if one is None)
    rows = next(len(one.items) for one in asked if one is not None)
    nothing = Proposals(np.zeros((rows, 0), np.int64), np.zeros((rows, 0), np.float32))
    proposals = [nothing if one is None else one for one in asked]
    if rows == 1:
        return _unite_single(names, proposals, skipped)
    items_BM = np.concatenate([one.items for one in proposals], axis=1)
    scores_BM = np.concatenate([one.scores for one in proposals], axis=1)
    source_M = np.repeat(np.arange(len(names)), [one.items.shape[1] for one in proposals])
    keep_BM, first_BM = first_occurrences(items_BM)
    column_BM = np.cumsum(keep_BM, axis=1) - 1
    rows, entries = np.nonzero(keep_BM)
    columns = column_BM[rows, entries]
    shape = (len(items_BM), int(columns.max(initial=-1)) + 1)
    items_BC, sources_BC = np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
    scores_BC = np.full(shape, NOTHING, np.float32)
    items_BC[rows, columns] = items_BM[rows, entries]
    sources_BC[rows, columns] = source_M[entries]
    scores_BC[rows, columns] = scores_BM[rows, entries]
    rows, entries = np.nonzero(items_BM)
    columns = column_BM[rows, first_BM[rows, entries]]
    values, source = scores_BM[rows, entries], source_M[entries]
    source_scores = {}
    for number, name in enumerate(names):
        mine = source == number
        table_BC = np.full(shape, np.nan, np.float32)
        table_BC[rows[mine], columns[mine]] = values[mine]
        source_scores[name] = table_BC
    return Candidates(items_BC, sources_BC, scores_BC, source_scores, skipped)


def _unite_single(
    names: Sequence[str], proposals: Sequence[Proposals], skipped: tuple[str, ...]
) -> Candidates:
    """The same for one history, in a fraction of the time: each list names an item once."""
    items_C = np.zeros(0, np.int64)
    parts: list[tuple[Ints | slice, Floats]] = []
    more: list[tuple[Floats, int]] = []
    for one in proposals:
        items_M, scores_M = one.items[0], one.scores[0]
        if not items_M.all():
            kept = items_M != 0
            items_M, scores_M = items_M[kept], scores_M[kept]
        if not len(items_C):
            items_C = items_M
            parts.append((slice(0, len(items_M)), scores_M))
            more.append((scores_M, len(items_M)))
            continue
        column_M, new_M = _columns_of(items_M, items_C)
        parts.append((column_M, scores_M))
        more.append((scores_M[new_M], int(np.count_nonzero(new_M))))
        items_C = np.concatenate([items_C, items_M[new_M]])
    source_scores = {}
    for name, (columns, scores_M) in zip(names, parts, strict=True):
        table_1C = np.full((1, len(items_C)), np.nan, np.float32)
        table_1C[0, columns] = scores_M
        source_scores[name] = table_1C
    scores_C = np.concatenate([scores for scores, _ in more])
    numbers = np.arange(len(more), dtype=np.uint8)
    sources_C = numbers.repeat([count for _, count in more])
    return Candidates(items_C[None], sources_C[None], scores_C[None], source_scores, skipped)


def _columns_of(items_M: Ints, known_C: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each item stands behind or among the known ones, and which are new."""
    order = known_C.argsort()
    place = known_C.take(order).searchsorted(items_M)
    column_M = order.take(place, mode="clip")
    new_M = known_C.take(column_M) != items_M
    column_M[new_M] = len(known_C) + np.arange(np.count_nonzero(new_M))
    return column_M, new_M


def most_similar(scores_1V: Floats, item: int, policy: Policy, k: int) -> Proposals:
    """The k best of a row of scores (changed in place) that are permitted and not `item`."""
    scores_1V[0, [0, item]] = NOTHING
    if policy.blocked is not None:
        scores_1V[0, policy.blocked] = NOTHING
    return Proposals(*top_k(scores_1V, k))
