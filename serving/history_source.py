"""Candidates from the training histories most like this one: a playlist's nearest playlists.

Any model whose encoder gives a history a vector will do. An item scores the summed weight of the
nearest histories that hold it,

    w = exp((s - s_1) / temperature),   s the cosine of the two vectors, s_1 the greatest

so that one very close history counts more than many that are far. Cosines are taken about the mean
of the training histories: what an encoder says of every history tells none from another, and it
would leave half precision no digits for the rest. Vectors say nothing of who
made a history: no user is named in a bundle.

Shape suffixes: B histories, P training histories with padding, V dense item ids with padding,
N neighbours, E their events, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals, most_similar
from serving.errors import BundleError, RequestError
from serving.graphs import open_graph
from serving.history_spec import HistoryNeighbourSpec
from serving.index import VectorIndex, build_index
from serving.new_items import NewItems
from serving.policy import Policy
from serving.topk import NOTHING, Floats, Ints, top_k

ENCODE_EVENTS = 8_192
"""Events per run of the encoder."""
EVERYTHING = Policy(exclude_seen=False)


class HistorySource:
    """A history becomes a vector; its nearest training histories vote for their items."""

    def __init__(
        self,
        spec: HistoryNeighbourSpec,
        graph: ort.InferenceSession,
        index: VectorIndex,
        held: tuple[Ints, NDArray[np.int32]],
        item_table: Mapping[str, NDArray],
        centre_D: Floats,
    ) -> None:
        """held: CSR of the items of the training histories 1..P, indptr (P + 1,) and items."""
        self.name, self.candidates = spec.name, spec.candidates
        self.spec, self._graph, self.index = spec, graph, index
        self._indptr, self._items = held
        self._item_table, self._centre_D = item_table, centre_D

    @classmethod
    def load(
        cls, bundle: Bundle, spec: HistoryNeighbourSpec, item_table: Mapping[str, NDArray]
    ) -> Self:
        """Open graph, vectors and items; raises BundleError where they do not fit."""
        indptr = bundle.array(spec.indptr, (spec.histories + 1,), np.int64)
        if indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise BundleError(f"{bundle.path / spec.indptr} does not ascend from 0")
        items = bundle.array(spec.items, (int(indptr[-1]),), np.int32)
        if len(items) and not 1 <= items.min() <= items.max() <= bundle.manifest.num_items:
            raise BundleError(f"{bundle.path / spec.items} holds ids outside the items")
        vectors_PD = bundle.array(spec.vectors, (spec.histories + 1, spec.dim), np.float16)
        if not np.isfinite(vectors_PD).all():
            raise BundleError(f"{bundle.path / spec.vectors} holds values that are not finite")
        centre_D = bundle.array(spec.centre, (spec.dim,), np.float32)
        graph = open_graph(bundle.path / spec.encoder)
        names = tuple(node.name for node in graph.get_inputs())
        if names != spec.inputs:
            raise BundleError(
                f"{bundle.path / spec.encoder} takes {names}, the manifest says {spec.inputs}"
            )
        return cls(spec, graph, build_index(vectors_PD), (indptr, items), item_table, centre_D)

    def encode(self, histories: Histories) -> Floats:
        """Vectors of length 1 about the centre, (B, D) float32; zero for an empty history."""
        spec = self.spec
        longest = max(min(int(histories.lengths.max(initial=0)), spec.max_len), 1)
        step = max(ENCODE_EVENTS // longest, 1)
        parts = []
        for start in range(0, len(histories), step):
            some = histories.take(slice(start, start + step))
            encoded = encode_histories(some, spec.inputs, spec.max_len, self._item_table)
            parts.append(np.asarray(self._graph.run(None, encoded)[0]))
        vectors_BD = centred(np.concatenate(parts), self._centre_D)
        vectors_BD[histories.lengths == 0] = 0
        return vectors_BD

    def nearest(self, vectors_BD: Floats, k: int) -> tuple[Ints, Floats]:
        """The k nearest training histories of each vector, (B, k) numbers from 1 and cosines."""
        nobody = Histories.of([[]] * len(vectors_BD))
        block = Block.of(nobody, np.zeros(len(vectors_BD), np.int64), self.spec.histories)
        found = self.index.search(vectors_BD, block, EVERYTHING, min(k, self.spec.histories))
        return found.items, found.scores

    def items_of(self, number: int) -> NDArray[np.int32]:
        """Dense item ids of the training history `number`, in order."""
        return self._items[self._indptr[number - 1] : self._indptr[number]]

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """Only items of the nearest histories; nothing for an empty history."""
        rows_BN, cosines_BN = self.nearest(self.encode(block.histories), self.spec.neighbours)
        items_BK = np.zeros((len(block), k), np.int64)
        scores_BK = np.full((len(block), k), NOTHING, np.float32)
        for row in np.flatnonzero(block.histories.lengths > 0).tolist():
            scores_1V = self._votes(rows_BN[row], cosines_BN[row], block.num_items)
            policy.hide(scores_1V, block.row(row))
            found_1K, best_1K = top_k(scores_1V, k)
            items_BK[row], scores_BK[row] = found_1K[0], best_1K[0]
        return Proposals(items_BK, scores_BK)

    def _votes(self, rows_N: Ints, cosines_N: Floats, num_items: int) -> Floats:
        """(1, V) summed weight of the neighbours that hold each item, -inf where none does."""
        real = rows_N > 0
        rows_N, cosines_N = rows_N[real], cosines_N[real]
        weight_N = np.exp((cosines_N - cosines_N.max(initial=-1)) / self.spec.temperature)
        held = [np.unique(self.items_of(row)) for row in rows_N.tolist()]
        sums_1V = np.full((1, num_items + 1), NOTHING, np.float32)
        if held:
            items_E = np.concatenate(held)
            sums_V = np.bincount(items_E, np.repeat(weight_N, [*map(len, held)]), num_items + 1)
            sums_1V[0] = np.where(sums_V > 0, sums_V, NOTHING)
        return sums_1V

    def similar(self, item: int, policy: Policy, k: int) -> Proposals:
        """What the nearest of a history of this item alone hold."""
        alone = self.encode(Histories.of([[item]]))
        rows_1N, cosines_1N = self.nearest(alone, self.spec.neighbours)
        num_items = max(int(self._items.max(initial=0)), item)
        return most_similar(self._votes(rows_1N[0], cosines_1N[0], num_items), item, policy, k)

    def with_items(self, new: NewItems) -> "HistorySource":
        """Raises RequestError: no training history holds a new item, nor can be asked by one."""
        raise RequestError(
            f"the source {self.name!r} ({self.spec.model}) knows the items of its training "
            f"histories only: train and export again, with the new items in the log"
        )

    def write(self, directory: Path) -> None:
        """Nothing: new items are refused."""


def centred(vectors_BD: Floats, centre_D: Floats) -> Floats:
    """Vectors less the centre, of length 1, (B, D) float32."""
    vectors_BD = vectors_BD - centre_D
    return vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True).clip(1e-12)
