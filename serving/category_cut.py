"""The hierarchical candidate cut: the next category is predicted first, then items among its own.

After HierSRec (arXiv:2309.06533), which found a candidate set of some 4 % of the catalogue, made of
the predicted categories, about as accurate as ranking everything. Categories are taken from the
most likely one on until their items make up the share asked for. Items whose category is missing or
unknown belong to every candidate set: no logit speaks of them, and new items may be among them.

Shape suffixes: B histories, V dense item ids with padding, D width, C known values, M item places
sorted by category, N candidates of a history, W values of an item.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.block import Block
from serving.candidates import Proposals
from serving.category_spec import CategoryCutSpec
from serving.errors import BundleError
from serving.manifest import ModelSpec
from serving.policy import Policy
from serving.topk import NOTHING, Floats, Ints

FIRST_VALUE = 2
"""Attribute values: 0 missing, 1 unknown, these and above known."""


@dataclass(frozen=True, slots=True)
class CategoryCut:
    """Items and their vectors sorted by category, so that a category is one stretch of memory."""

    items: Ints
    """(M,)"""
    vectors: NDArray[np.float32]
    """(M, D)"""
    offsets: Ints
    """(C + 2,) where the stretch of code 1 + i begins; the first one is of unknown categories."""
    least: int
    """Items of a candidate set, at least."""
    several: bool
    """An item may stand in more than one category."""

    @classmethod
    def of(
        cls,
        spec: CategoryCutSpec,
        num_values: int,
        item_table: Mapping[str, NDArray],
        vectors_VD: NDArray[np.floating],
    ) -> "CategoryCut":
        """Sort the catalogue. num_values: C. Raises BundleError for a column that is not there."""
        if spec.column not in item_table:
            raise BundleError(
                f"the candidate cut is by {spec.column!r}, the bundle's items have "
                f"{sorted(item_table)}: export it again"
            )
        codes_VW = item_table[spec.column].astype(np.int64)
        codes_VW = codes_VW.reshape(len(codes_VW), -1)
        known_VW = codes_VW >= FIRST_VALUE
        if int(codes_VW.max(initial=0)) >= FIRST_VALUE + num_values:
            raise BundleError(
                f"{spec.column} has codes up to {codes_VW.max()}, the model predicts "
                f"{num_values} values: export the bundle again"
            )
        items, places = np.nonzero(known_VW)
        codes = codes_VW[items, places]
        lost = np.flatnonzero(~known_VW.any(axis=1))
        items = np.concatenate([lost[lost > 0], items]).astype(np.int64)
        codes = np.concatenate([np.full(len(items) - len(codes), FIRST_VALUE - 1), codes])
        order = np.lexsort((items, codes))
        items_M = items[order]
        offsets = np.searchsorted(codes[order], np.arange(1, num_values + FIRST_VALUE + 1))
        least = max(round(spec.share * (len(codes_VW) - 1)), 1)
        vectors_MD = vectors_VD[items_M].astype(np.float32)
        return cls(items_M, vectors_MD, offsets, least, codes_VW.shape[1] > 1)

    def chosen(self, logits_C: Floats) -> Ints:
        """Codes, from 1 on, whose items are the candidates: the unknown ones, then the likeliest
        until their items reach the share.
        """
        order_C = np.argsort(-logits_C, kind="stable")
        counts_C = np.diff(self.offsets)[1:][order_C]
        enough = int(np.searchsorted(np.cumsum(counts_C), self.least)) + 1
        return np.append(1, order_C[:enough] + FIRST_VALUE)

    def search(
        self, queries_BD: Floats, logits_BC: Floats, block: Block, policy: Policy, k: int
    ) -> Proposals:
        """The k best permitted items of each history's candidates; ties by item id, fewer than k
        where there are not as many.
        """
        items_BK = np.zeros((len(block), k), np.int64)
        scores_BK = np.full((len(block), k), NOTHING, np.float32)
        for row in range(len(block)):
            items, scores = self._candidates(queries_BD[row], logits_BC[row])
            kept = policy.keep(items[None], block.row(row))[0]
            items, scores = items[kept], scores[kept]
            if len(items) > 4 * k:  # cheaper to find the k-th than to sort them all
                best = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
                items, scores = items[best], scores[best]
            order = np.lexsort((items, -scores))[:k]
            items_BK[row, : len(order)], scores_BK[row, : len(order)] = items[order], scores[order]
        return Proposals(items_BK, scores_BK)

    def _candidates(self, query_D: Floats, logits_C: Floats) -> tuple[Ints, Floats]:
        """Distinct items and their scores, (N,) each."""
        codes = self.chosen(logits_C)
        stretches = [slice(int(self.offsets[c - 1]), int(self.offsets[c])) for c in codes.tolist()]
        items = np.concatenate([self.items[stretch] for stretch in stretches])
        scores = np.concatenate([self.vectors[stretch] @ query_D for stretch in stretches])
        if self.several:
            items, first = np.unique(items, return_index=True)
            scores = scores[first]
        return items, scores


def cut_of(
    spec: ModelSpec,
    sizes: Mapping[str, int],
    item_table: Mapping[str, NDArray],
    vectors_VD: NDArray[np.floating],
) -> CategoryCut | None:
    """The cut that a model's manifest asks for. sizes: known values by predicted column."""
    if spec.cut is None:
        return None
    if spec.cut.column not in sizes:
        raise BundleError(
            f"the candidate cut is by {spec.cut.column!r}, the model predicts {sorted(sizes)}"
        )
    return CategoryCut.of(spec.cut, sizes[spec.cut.column], item_table, vectors_VD)
