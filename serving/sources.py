"""Where candidates come from. Here item neighbours; `model_source` and `popularity` are others.

A source proposes permitted items only, best first, ties by item id, and nothing for a history it
has no opinion about. Shape suffixes: B histories, V dense item ids with padding, D width,
E events, N votes, M padded list.
"""

from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals, most_similar
from serving.errors import BundleError
from serving.manifest import NeighbourSpec
from serving.new_items import NewItems
from serving.policy import Policy
from serving.topk import NOTHING, Floats, Ints, top_k

DENSE_VOTES = 1 << 22
"""Cells up to which neighbours' votes are summed in a dense table."""


class Source(Protocol):
    """Proposes items for histories."""

    name: str
    candidates: int
    """Items it proposes for a ranker to choose from."""

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items of each history, (B, k)."""
        ...

    def similar(self, item: int, policy: Policy, k: int) -> Proposals:
        """The k items most like a dense id, (1, k), for somebody without a history."""
        ...

    def with_items(self, new: NewItems) -> Self:
        """The same source, which also knows new items; this one stays as it is.

        Raises RequestError where it can know none but those it was trained on.
        """
        ...

    def write(self, directory: Path) -> None:
        """Write the files of a bundle that `with_items` changes."""
        ...


class NeighbourSource:
    """Each distinct item of the history votes for its neighbours; the sums are the scores."""

    def __init__(
        self, spec: NeighbourSpec, indptr: Ints, indices: NDArray[np.int32], scores: Floats
    ) -> None:
        self.name, self.candidates = spec.name, spec.candidates
        self._spec = spec
        self._indptr, self._indices, self._scores = indptr, indices, scores

    @classmethod
    def load(cls, bundle: Bundle, spec: NeighbourSpec) -> Self:
        """Open the matrix; raises BundleError unless it is a whole CSR matrix of these items."""
        num_items = bundle.manifest.num_items
        indptr = bundle.array(spec.indptr, (num_items + 2,), np.int64)
        if indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise BundleError(f"{bundle.path / spec.indptr} does not ascend from 0")
        indices = bundle.array(spec.indices, (int(indptr[-1]),), np.int32)
        scores = bundle.array(spec.scores, indices.shape, np.float32)
        if len(indices) and not 1 <= indices.min() <= indices.max() <= num_items:
            raise BundleError(f"{bundle.path / spec.indices} holds ids outside 1..{num_items}")
        if not np.isfinite(scores).all():
            raise BundleError(f"{bundle.path / spec.scores} holds values that are not finite")
        return cls(spec, indptr, indices, scores)

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """Only items with a vote are proposed."""
        width = block.num_items + 1
        rows, items = np.divmod(block.seen_keys, width)
        starts, counts = self._indptr[items], self._indptr[items + 1] - self._indptr[items]
        ends = np.cumsum(counts)
        vote_N = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
        keys_N: Ints = np.repeat(rows * width, counts) + self._indices[vote_N].astype(np.int64)
        if len(block) * width <= DENSE_VOTES:
            sums = np.bincount(keys_N, self._scores[vote_N], minlength=len(block) * width)
            keys = np.flatnonzero(sums)
            sums = sums[keys]
        else:
            keys, inverse = np.unique(keys_N, return_inverse=True)
            sums = np.bincount(inverse, self._scores[vote_N], minlength=len(keys))
        return self._best_of(keys, sums.astype(np.float32), block, policy, k)

    def votes(self, events: Ints, items_K: Ints) -> Floats:
        """(K, E) vote of each event for each item; only the first event on an item votes."""
        votes_KE = np.zeros((len(items_K), len(events)), np.float32)
        _, firsts = np.unique(events, return_index=True)
        for event in firsts.tolist():
            rows = slice(int(self._indptr[events[event]]), int(self._indptr[events[event] + 1]))
            same_KN = items_K[:, None] == self._indices[rows]
            votes_KE[:, event] = (same_KN * self._scores[rows]).sum(axis=1)
        return votes_KE

    def _best_of(self, keys: Ints, sums: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """From (row, item) pairs, ascending, to lists: pad the pairs of each row, then cut."""
        rows, items = np.divmod(keys, block.num_items + 1)
        counts = np.bincount(rows, minlength=len(block))
        columns = 1 + np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(block), int(counts.max(initial=0)) + 1)
        items_BM, scores_BM = np.zeros(shape, np.int64), np.full(shape, NOTHING, np.float32)
        items_BM[rows, columns], scores_BM[rows, columns] = items, sums
        scores_BM[~policy.keep(items_BM, block)] = NOTHING
        best_BK, found_BK = top_k(scores_BM, k)
        return Proposals(np.take_along_axis(items_BM, best_BK, axis=1), found_BK)

    def similar(self, item: int, policy: Policy, k: int) -> Proposals:
        """The item's own neighbours."""
        rows = slice(int(self._indptr[item]), int(self._indptr[item + 1]))
        scores_V = np.full((1, len(self._indptr) - 1), NOTHING, np.float32)
        scores_V[0, self._indices[rows]] = self._scores[rows]
        return most_similar(scores_V, item, policy, k)

    def with_items(self, new: NewItems) -> "NeighbourSource":
        """New items have no neighbours and are nobody's."""
        indptr = np.pad(self._indptr, (0, len(new)), mode="edge")
        return NeighbourSource(self._spec, indptr, self._indices, self._scores)

    def write(self, directory: Path) -> None:
        """Write the row ends of the matrix."""
        np.save(directory / self._spec.indptr, self._indptr)
