"""Item vectors and the search for the best inner products, exact or approximate.

Shape suffixes: B queries, V dense item ids with padding, D width, K results.
"""

import copy
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals
from serving.errors import RequestError
from serving.manifest import ModelSpec
from serving.policy import Policy
from serving.running_top import RunningTop
from serving.topk import NOTHING, Floats, chosen, compress, top_k

EXACT_BELOW = 50_000
"""Items. Scanning this many exactly takes as long as the approximate search (benchmarks)."""
TRAIN_SAMPLE = 20_000
ADD_CHUNK = 65_536
SCORE_CHUNK = 16_384
"""Items scored at once by `BlockedIndex`: 16 MiB of scores for 256 histories."""
CONVERTED_CELLS = 1 << 24
"""Numbers that `BlockedIndex` keeps at single precision, 64 MiB; converting them takes a fifth of a
search."""
REFINE = 20
"""Candidates compared at half precision per result asked for: with so many at least .98 of the best
500 are found also among isotropic vectors. The export chooses fewer where they suffice."""


class VectorIndex(Protocol):
    """Finds the items whose vectors have the greatest inner product with a query."""

    description: str
    dense: bool
    """Whether a search holds one score for every history and item at once."""

    def search(self, queries_BD: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items of each query."""
        ...


class RemoteIndexes(Protocol):
    """Opens the indexes of bundles on another host."""

    def open(self, bundle: Bundle, spec: ModelSpec, vectors_VD: NDArray[np.float16]) -> VectorIndex:
        """The index of a source; raises BundleError where it is not that of these vectors, and
        StateError where the host does not answer.
        """
        ...


class ExactIndex:
    """Every item is scored, so filters act before the cut and nothing is missed."""

    description = "exact"
    dense = True

    def __init__(self, vectors_VD: NDArray[np.floating]) -> None:
        self._items_DV = np.ascontiguousarray(vectors_VD.T, np.float32)

    def search(self, queries_BD: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items of each query; ties by item id."""
        scores_BV = queries_BD @ self._items_DV
        policy.hide(scores_BV, block)
        return Proposals(*top_k(scores_BV, k))


class BlockedIndex:
    """Exact as well, for many histories and many items: the catalogue is scored chunk by chunk.

    For batches: 256 histories over 100,000 items of 64 dimensions take a tenth of the time of as
    many approximate searches. A single history would wait for a product over all vectors.
    """

    description = "exact, blocked"
    dense = False

    def __init__(self, vectors_VD: NDArray[np.floating]) -> None:
        small = vectors_VD.size <= CONVERTED_CELLS
        self._vectors_VD = vectors_VD.astype(np.float32) if small else vectors_VD

    def search(self, queries_BD: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items of each query; ties by item id."""
        last, rows = len(self._vectors_VD), len(block)
        queries_DB = np.ascontiguousarray(queries_BD.T)
        buffer_CB = np.empty((min(SCORE_CHUNK, last), rows), np.float32)
        found = RunningTop(rows, k)
        hidden = _Hidden(policy, block)
        for start in range(1, last, SCORE_CHUNK):
            chunk_CD = self._vectors_VD[start : start + SCORE_CHUNK].astype(np.float32, copy=False)
            # items by queries: BLAS takes two thirds of the time of queries by items
            scores_CB = np.matmul(chunk_CD, queries_DB, out=buffer_CB[: len(chunk_CD)])
            hidden.hide(scores_CB, start)
            found.add(scores_CB, start)
        return Proposals(*found.best())


class _Hidden:
    """What a policy forbids, chunk by chunk of the catalogue."""

    def __init__(self, policy: Policy, block: Block) -> None:
        self._policy, self._block = policy, block
        self._simple = policy.window is None and not policy.caps
        self._rows, self._items = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if policy.exclude_seen and self._simple:
            order = np.argsort(block.items, kind="stable")
            self._rows, self._items = block.rows[order], block.items[order]

    def hide(self, scores_CB: Floats, start: int) -> None:
        """Set what may not be recommended to -inf, in place; the first row is item `start`."""
        items = slice(start, start + len(scores_CB))
        if not self._simple:
            every_BC = np.broadcast_to(np.arange(items.start, items.stop), scores_CB.T.shape)
            scores_CB[~self._policy.keep(every_BC, self._block).T] = NOTHING
            return
        if self._policy.blocked is not None:
            scores_CB[self._policy.blocked[items]] = NOTHING
        first, last = np.searchsorted(self._items, (items.start, items.stop))
        scores_CB[self._items[first:last] - start, self._rows[first:last]] = NOTHING


class ApproximateIndex:
    """4-bit product quantisation scanned in full, the best then compared at half precision. With
    `refine` 0 half precision alone: four times slower, and for vectors of all kinds.
    """

    dense = False

    def __init__(self, vectors_VD: NDArray[np.floating], refine: int = REFINE) -> None:
        """refine: candidates compared at half precision per result asked for; 0: all items."""
        self._vectors_VD, self._refine = vectors_VD, refine
        dim = vectors_VD.shape[1]
        self.description = "SQfp16" if dim % 2 or not refine else f"PQ{dim // 2}x4fs,Refine(SQfp16)"
        faiss.omp_set_num_threads(1)
        self._index = faiss.index_factory(dim, self.description, faiss.METRIC_INNER_PRODUCT)
        self._index = _refining(self._index, refine)
        count = len(vectors_VD) - 1
        sample = np.random.default_rng(0).permutation(count)[:TRAIN_SAMPLE]
        self._index.train(vectors_VD[np.sort(sample) + 1].astype(np.float32))
        for start in range(1, count + 1, ADD_CHUNK):
            self._index.add(vectors_VD[start : start + ADD_CHUNK].astype(np.float32))

    def with_vectors(self, vectors_VD: NDArray[np.float16]) -> "ApproximateIndex":
        """The index of `vectors_VD`, whose first rows are those of this one; not trained again."""
        known = self._index.ntotal + 1
        extended = copy.copy(self)
        extended._vectors_VD = vectors_VD
        extended._index = _refining(faiss.clone_index(self._index), self._refine)
        extended._index.add(vectors_VD[known:].astype(np.float32))
        return extended

    def refined(self, refine: int) -> "ApproximateIndex":
        """The same index, comparing another number of candidates. Not for an index in use: both
        share what is searched.
        """
        other = copy.copy(self)
        other._refine, other._index = refine, _refining(self._index, refine)
        return other

    def search(self, queries_BD: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items that the index finds; exact where few items are permitted
        or most of the catalogue is asked for.
        """
        depth = policy.depth(block, k)
        if depth * self._refine > block.num_items:
            return self._search_exactly(queries_BD, block, policy, k)
        scores_BM, rows_BM = self._index.search(queries_BD, depth)
        items_BM = rows_BM + 1  # row 0 is item 1, and -1 for "no more" becomes padding
        if (scores_BM[:, 1:] == scores_BM[:, :-1]).any():  # ties are in no order
            order_BM = np.lexsort((items_BM, -scores_BM), axis=1)
            items_BM, scores_BM = chosen(items_BM, order_BM), chosen(scores_BM, order_BM)
        keep_BM = policy.keep(items_BM, block)
        if not policy.fills(keep_BM, block, k):
            return self._search_exactly(queries_BD, block, policy, k)
        return Proposals(*compress((items_BM, scores_BM), (0, NOTHING), keep_BM, k))

    def _search_exactly(
        self, queries_BD: Floats, block: Block, policy: Policy, k: int
    ) -> Proposals:
        """One history at a time: a row of scores over a large catalogue is megabytes."""
        blocked = policy.blocked is not None
        items = policy.permitted if blocked else np.arange(1, block.num_items + 1)
        parts = []
        for row in range(len(block)):
            scores_V = np.full((1, block.num_items + 1), NOTHING, np.float32)
            for start in range(0, len(items), ADD_CHUNK):
                chunk = items[start : start + ADD_CHUNK]
                scores_V[0, chunk] = self._vectors_VD[chunk].astype(np.float32) @ queries_BD[row]
            policy.hide(scores_V, block.row(row))
            parts.append(top_k(scores_V, k))
        found, scores = zip(*parts, strict=True)
        return Proposals(np.concatenate(found), np.concatenate(scores))


def _refining(index: faiss.Index, refine: int) -> faiss.Index:
    if isinstance(index, faiss.IndexRefine):
        index.k_factor = refine
    return index


def build_index(
    vectors_VD: NDArray[np.floating], *, batches: bool = False, refine: int = REFINE
) -> VectorIndex:
    """The index that suits the size of the catalogue; `batches`: and many histories at once."""
    if len(vectors_VD) <= EXACT_BELOW:
        return ExactIndex(vectors_VD)
    return BlockedIndex(vectors_VD) if batches else ApproximateIndex(vectors_VD, refine)


def extend_index(index: VectorIndex, vectors_VD: NDArray[np.float16]) -> VectorIndex:
    """The index of `vectors_VD`, whose first rows are those of `index`; that stays as it is.

    Raises RequestError for a remote index, which only an upload changes.
    """
    if isinstance(index, ApproximateIndex):
        return index.with_vectors(vectors_VD)
    if not isinstance(index, ExactIndex | BlockedIndex):
        raise RequestError(
            f"the index {index.description} is not on this host: write the bundle with its new "
            f"items (serving.extend), upload its vectors, and publish it"
        )
    return build_index(vectors_VD, batches=isinstance(index, BlockedIndex))
