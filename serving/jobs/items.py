"""The catalogue as a job: vectors of all items, or for each item the ones most like it.

    item-vectors   item_id, vector                        float32, as the encoder's graph gives it
    similar-items  item_id, similar_ids, scores           cosine, as `Recommender.similar_items`

Parts are slices of the catalogue in the order of dense ids.
"""

import numpy as np
import polars as pl

from features.encode import Histories
from serving.block import Block
from serving.index import build_index
from serving.jobs.outputs import list_column, model_source
from serving.jobs.plan import Question
from serving.policy import Policy
from serving.recommender import Recommender
from serving.topk import Floats

CATALOGUE = "catalogue"
"""Stands as the source of a job over items."""
BLOCK = 256
"""Items whose neighbours are searched at once."""
BY_ITSELF = Policy(exclude_seen=True)
"""An item is its own history, so it is not proposed to itself."""


class Catalogue:
    """Answers questions about items; what it prepares is kept for the next part."""

    def __init__(self, recommender: Recommender, question: Question) -> None:
        self._recommender, self._question = recommender, question
        self._vectors_VD = model_source(recommender).vectors_VD
        if question.what == "similar-items":
            self._unit_VD = unit(self._vectors_VD.astype(np.float32))
            self._index = build_index(self._unit_VD, batches=True)

    def answer(self, first: int, last: int) -> pl.DataFrame:
        """One row an item, for rows [first, last) of the catalogue (dense ids from first + 1)."""
        ids = np.arange(first + 1, last + 1)
        raw_ids = self._recommender.raw_item_ids.gather(ids)
        if self._question.what == "item-vectors":
            vectors_ND = np.asarray(self._vectors_VD[ids], np.float32)
            kind = pl.Array(pl.Float32, vectors_ND.shape[1])
            return pl.DataFrame({"item_id": raw_ids, "vector": pl.Series(vectors_ND, dtype=kind)})
        parts = [self._similar(ids[i : i + BLOCK]) for i in range(0, len(ids), BLOCK)]
        items_NK, scores_NK = (np.concatenate(part) for part in zip(*parts, strict=True))
        real_NK = items_NK > 0
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(real_NK.sum(axis=1))])
        similar = self._recommender.raw_item_ids.gather(items_NK[real_NK])
        scores = pl.Series(scores_NK[real_NK], dtype=pl.Float32)
        return pl.DataFrame(
            {
                "item_id": raw_ids,
                "similar_ids": list_column(offsets, similar),
                "scores": list_column(offsets, scores),
            }
        )

    def _similar(self, ids: np.ndarray) -> tuple[np.ndarray, Floats]:
        num_items = self._recommender.num_items
        k = min(self._question.k, max(num_items - 1, 1))
        alone = Histories.of(ids[:, None].tolist())
        block = Block.of(alone, np.zeros(len(ids), np.int64), num_items)
        found = self._index.search(self._unit_VD[ids], block, BY_ITSELF, k)
        return found.items, found.scores


def unit(vectors_VD: Floats) -> Floats:
    """The vectors at length 1, in place; those of length 0 stay 0."""
    norms_V = np.sqrt(np.einsum("vd,vd->v", vectors_VD, vectors_VD))
    norms_V[norms_V == 0] = 1
    vectors_VD /= norms_V[:, None]
    return vectors_VD
