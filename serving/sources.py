"""Where candidates come from: a neural model, item neighbours, popularity.

A source proposes permitted items only, best first, ties by item id, and nothing for a history it
has no opinion about. Shape suffixes: B histories, V dense item ids with padding, D width,
E events, N votes, M padded list.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals, most_similar
from serving.errors import BundleError
from serving.index import VectorIndex, build_index
from serving.manifest import ModelSpec, NeighbourSpec, PopularitySpec, SourceSpec
from serving.policy import Policy
from serving.popularity import PopularitySource
from serving.topk import NOTHING, Floats, Ints, top_k

ENCODE_TOKENS = 8_192
"""Events per run of the encoder: bounds the memory that onnxruntime keeps."""
SIMILAR_CHUNK = 65_536
"""Items compared at once."""
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


def open_graph(path: Path) -> ort.InferenceSession:
    """An ONNX graph on one thread: the callers are the parallelism. Raises BundleError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:  # from bytes: a graph that refers to other files is refused
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises undocumented types
        raise BundleError(f"{path} cannot be opened: {error}") from error


class ModelSource:
    """A history becomes a vector; items are found by inner product."""

    def __init__(
        self,
        spec: ModelSpec,
        graph: ort.InferenceSession,
        vectors_VD: NDArray[np.float16],
        item_table: Mapping[str, NDArray],
        *,
        batches: bool = False,
    ) -> None:
        self.name, self.candidates = spec.name, spec.candidates
        self.inputs, self.max_len, self.dim = spec.inputs, spec.max_len, spec.dim
        self.graph = graph
        self._outputs = [node.name for node in graph.get_outputs()]
        self._item_table = item_table
        self.vectors_VD = vectors_VD
        self.index: VectorIndex = build_index(vectors_VD, batches=batches)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        spec: ModelSpec,
        item_table: Mapping[str, NDArray],
        *,
        batches: bool = False,
    ) -> Self:
        """Open the graph and index the vectors; raises BundleError where they do not fit."""
        graph = open_graph(bundle.path / spec.encoder)
        shape = (bundle.manifest.num_items + 1, spec.dim)
        vectors_VD = bundle.array(spec.vectors, shape, np.float16)
        if not np.isfinite(vectors_VD).all():
            raise BundleError(f"{bundle.path / spec.vectors} holds values that are not finite")
        names = tuple(node.name for node in graph.get_inputs())
        if names != spec.inputs:
            raise BundleError(
                f"{bundle.path / spec.encoder} takes {names}, the manifest says {spec.inputs}"
            )
        return cls(spec, graph, vectors_VD, item_table, batches=batches)

    def encode(self, histories: Histories) -> Floats:
        """History vectors, (B, D) float32."""
        if len(histories) == 1:
            return self._run(histories)
        step = max(ENCODE_TOKENS // max(min(int(histories.lengths.max()), self.max_len), 1), 1)
        return np.concatenate(
            [
                self._run(histories.take(slice(start, start + step)))
                for start in range(0, len(histories), step)
            ]
        )

    def _run(self, histories: Histories) -> Floats:
        encoded = encode_histories(histories, self.inputs, self.max_len, self._item_table)
        output = self.graph.run(self._outputs, encoded)[0]
        assert isinstance(output, np.ndarray)
        return output

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """Nothing for an empty history, or where the vector is not finite."""
        queries_BD = self.encode(block.histories)
        silent_B = block.histories.ends == block.histories.starts
        silent_B |= ~np.isfinite(queries_BD.sum(axis=1))
        if not silent_B.any():
            return self.index.search(queries_BD, block, policy, k)
        queries_BD = np.where(silent_B[:, None], np.float32(0), queries_BD)
        found = self.index.search(queries_BD, block, policy, k)
        found.items[silent_B], found.scores[silent_B] = 0, NOTHING
        return found

    def similar(self, item: int, policy: Policy, k: int) -> Proposals:
        """By cosine of the item vectors."""
        query_D = self.vectors_VD[item].astype(np.float32)
        cosine_V = np.zeros(len(self.vectors_VD), np.float32)
        for start in range(0, len(cosine_V), SIMILAR_CHUNK):
            chunk_VD = self.vectors_VD[start : start + SIMILAR_CHUNK].astype(np.float32)
            length_V = np.sqrt(np.einsum("vd,vd->v", chunk_VD, chunk_VD))
            length_V[length_V == 0] = 1
            cosine_V[start : start + SIMILAR_CHUNK] = chunk_VD @ query_D / length_V
        cosine_V /= max(float(np.linalg.norm(query_D)), 1e-12)
        return most_similar(cosine_V[None], item, policy, k)


class NeighbourSource:
    """Each distinct item of the history votes for its neighbours; the sums are the scores."""

    def __init__(
        self, spec: NeighbourSpec, indptr: Ints, indices: NDArray[np.int32], scores: Floats
    ) -> None:
        self.name, self.candidates = spec.name, spec.candidates
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


def load_source(
    bundle: Bundle, spec: SourceSpec, item_table: Mapping[str, NDArray], *, batches: bool = False
) -> Source:
    """The source that a line of the manifest describes; raises BundleError."""
    match spec:
        case ModelSpec():
            return ModelSource.load(bundle, spec, item_table, batches=batches)
        case NeighbourSpec():
            return NeighbourSource.load(bundle, spec)
        case PopularitySpec():
            return PopularitySource.load(bundle, spec)
