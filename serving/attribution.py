"""What carried a score: by leaving things out and looking at the difference. No gradients, so that
any graph can be explained.

Shape suffixes: K items explained, L events of a window, F features, P orders, R rows of a run.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from serving.block import Block
from serving.model_source import ModelSource
from serving.sources import NeighbourSource, Source
from serving.topk import Floats, Ints

ORDERS = 8
"""Orders in which features are replaced, half of them the reverse of the others."""
RUN_ROWS = 4_096
"""Rows scored at once."""


def event_shares(source: Source, block: Block, items_K: Ints) -> tuple[Floats, int]:
    """How much less each item would score without each event of a single history, in the units of
    the source's score: (K, L), and the place in the history of the first of the L events.

    A model: the events it reads, left out one at a time. Neighbours: the votes of each event.
    Popularity reads no history: (K, 0).
    """
    if isinstance(source, ModelSource):
        first = max(len(block.items) - source.max_len, 0)
        return _without_each(source, block, first, items_K), first
    if isinstance(source, NeighbourSource):
        return source.votes(block.items.astype(np.int64), items_K), 0
    return np.zeros((len(items_K), 0), np.float32), len(block.items)


def _without_each(source: ModelSource, block: Block, first: int, items_K: Ints) -> Floats:
    columns = [
        array[block.places][first:]
        for array in (
            block.histories.items,
            block.histories.timestamps,
            block.histories.events,
        )
    ]
    length = len(columns[0])
    if not length:
        return np.zeros((len(items_K), 0), np.float32)
    variants = [[*range(length)], *([*range(e), *range(e + 1, length)] for e in range(length))]
    histories = Histories.of(*([column[rows] for rows in variants] for column in columns))
    vectors_KD = source.vectors_VD[items_K].astype(np.float32)
    scores_KR = vectors_KD @ source.encode(histories).T
    return (scores_KR[:, :1] - scores_KR[:, 1:]).astype(np.float32)


def input_shares(
    source: Source, block: Block, items_K: Ints, item_table: Mapping[str, NDArray]
) -> dict[str, Floats]:
    """How much less each item would score if the model did not see one of its inputs at all
    (behaviours, times, each attribute), (K,) by name. Empty for sources that are no model.
    """
    if not isinstance(source, ModelSource) or not len(block.items):
        return {}
    encoded = encode_histories(block.histories, source.inputs, source.max_len, item_table)
    vectors_KD = source.vectors_VD[items_K].astype(np.float32)

    def scores(inputs: dict[str, NDArray]) -> Floats:
        state = source.graph.run(None, inputs)[0]
        return vectors_KD @ np.asarray(state)[0]

    full_K = scores(encoded)
    found = {}
    for name in source.inputs:
        if name == "items":
            continue
        share_K = full_K - scores({**encoded, name: np.zeros_like(encoded[name])})
        if np.isfinite(share_K).all():
            found[name.removeprefix("item.")] = share_K
    return found


def feature_shares(
    score: Callable[[Floats], Floats], features_KF: Floats, reference_F: Floats
) -> NDArray[np.float64]:
    """Shapley values of the features, (K, F), estimated over `ORDERS` orders (Castro, Gomez &
    Tejada 2009; reversed pairs as Mitchell et al. 2022): in each order the features of `reference`
    are replaced one by one by the item's, and the change in score belongs to the feature.

    They sum to score(item) - score(reference), whatever the number of orders; they are exact for
    a score that is a sum over single features. score: (R, F) float32 -> (R,).
    """
    num_items, num_features = features_KF.shape
    rng = np.random.default_rng(0)
    orders = [rng.permutation(num_features) for _ in range(ORDERS // 2)]
    orders += [order[::-1] for order in orders]
    shares_KF = np.zeros((num_items, num_features))
    for order in orders:
        rank_F = np.empty(num_features, np.int64)
        rank_F[order] = np.arange(num_features)
        taken_SF = rank_F[None, :] < np.arange(num_features + 1)[:, None]
        rows_KSF = np.where(taken_SF[None], features_KF[:, None, :], reference_F)
        flat = rows_KSF.reshape(-1, num_features).astype(np.float32)
        scores = np.concatenate(
            [score(flat[start : start + RUN_ROWS]) for start in range(0, len(flat), RUN_ROWS)]
        )
        steps_KF = np.diff(scores.reshape(num_items, -1).astype(np.float64), axis=1)
        shares_KF[:, order] += steps_KF
    return shares_KF / len(orders)
