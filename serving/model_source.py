"""Candidates of a neural model: history to vector to the items of the greatest inner product.

Shape suffixes: B histories, V dense item ids with padding, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.encode import SENTENCE, TOKEN_INPUTS, Histories, encode_histories
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals, most_similar
from serving.category_cut import CategoryCut, cut_of
from serving.errors import BundleError, RequestError
from serving.graphs import open_graph
from serving.index import RemoteIndexes, VectorIndex, build_index, extend_index
from serving.item_encoder import ItemEncoder
from serving.manifest import ModelSpec
from serving.new_items import NewItems
from serving.policy import Policy
from serving.topk import NOTHING, Floats

ENCODE_TOKENS = 8_192
"""Events, or tokens of sentences, per run of the encoder: bounds the memory onnxruntime keeps."""
VECTOR = "vector"
VECTOR_INPUT = f"item.{VECTOR}"
"""Input of a history encoder that reads the item vectors of the bundle, position by position."""
SIMILAR_CHUNK = 65_536
"""Items compared at once."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """The ONNX graphs of a model."""

    history: ort.InferenceSession
    items: ItemEncoder | None
    """None for a model that knows items by id only."""

    def sizes(self, spec: ModelSpec, directory: Path) -> dict[str, int]:
        """Known values by predicted column; raises BundleError where an output is missing."""
        outputs = self.history.get_outputs()[1:]
        if len(outputs) != len(spec.predicted):
            raise BundleError(
                f"{directory / spec.encoder} has {1 + len(outputs)} outputs, the manifest says one "
                f"for the history and one for each of {spec.predicted}"
            )
        return {
            name: int(node.shape[-1]) for name, node in zip(spec.predicted, outputs, strict=True)
        }


class ModelSource:
    """A history becomes a vector; items are found by inner product."""

    def __init__(
        self,
        spec: ModelSpec,
        graphs: Graphs,
        vectors_VD: NDArray[np.float16],
        item_table: Mapping[str, NDArray],
        index: VectorIndex,
        cut: CategoryCut | None,
    ) -> None:
        """item_table: at least what the history encoder and the cut read, but `vector`."""
        self.name, self.candidates = spec.name, spec.candidates
        self.inputs, self.max_len, self.dim = spec.inputs, spec.max_len, spec.dim
        self.graph, self._graphs, self._spec = graphs.history, graphs, spec
        self._outputs = [node.name for node in self.graph.get_outputs()]
        self.predicted, self._cut = spec.predicted, cut
        self._item_table = {**item_table, VECTOR: vectors_VD}
        self.vectors_VD = vectors_VD
        self.index = index

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        spec: ModelSpec,
        item_table: Mapping[str, NDArray],
        *,
        batches: bool = False,
        indexes: RemoteIndexes | None = None,
    ) -> Self:
        """Open the graph and index the vectors, or find them indexed elsewhere; raises BundleError
        where they do not fit.
        """
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
        items = None
        if spec.item_encoder:
            path = bundle.path / spec.item_encoder
            items = ItemEncoder.load(path, spec.item_inputs, spec.dim)
        graphs = Graphs(graph, items)
        cut = cut_of(spec, graphs.sizes(spec, bundle.path), item_table, vectors_VD)
        if indexes is None:
            index = build_index(vectors_VD, batches=batches, refine=spec.refine)
        else:
            index = indexes.open(bundle, spec, vectors_VD)
        return cls(spec, graphs, vectors_VD, item_table, index, cut)

    def encode(self, histories: Histories) -> Floats:
        """History vectors, (B, D) float32."""
        return self._encode(histories, self._outputs[:1])[0]

    def category_logits(self, histories: Histories, column: str) -> Floats:
        """Logits (B, C) of the next item's value: column c is code c + 2.

        Raises RequestError for a column that the model does not predict.
        """
        if column not in self.predicted:
            raise RequestError(
                f"the source {self.name!r} ({self._spec.model}) does not predict {column!r}: it "
                f"predicts {list(self.predicted) or 'no categories'}"
            )
        name = self._outputs[1 + self.predicted.index(column)]
        return self._encode(histories, [name])[0]

    def _encode(self, histories: Histories, outputs: list[str]) -> list[Floats]:
        """The outputs of the graph, in their order, for all histories."""
        if len(histories) == 1:
            return self._run(histories, outputs)
        longest = max(min(int(histories.lengths.max()), self.max_len), 1)
        width = self._width()
        step = max(ENCODE_TOKENS // (longest * width), 1)
        order = np.arange(len(histories))
        if width > 1:  # padding is dear: like lengths together
            order = np.argsort(histories.lengths, kind="stable")
        parts = [
            self._run(histories.take(order[start : start + step]), outputs)
            for start in range(0, len(histories), step)
        ]
        back = np.argsort(order)
        return [np.concatenate(one)[back] for one in zip(*parts, strict=True)]

    def _width(self) -> int:
        """Tokens of one event, at most: for a model that reads item sentences their width."""
        reads = any(name in TOKEN_INPUTS for name in self.inputs)
        return self._item_table[SENTENCE].shape[1] if reads else 1

    def _run(self, histories: Histories, outputs: list[str]) -> list[Floats]:
        encoded = encode_histories(histories, self.inputs, self.max_len, self._item_table)
        if VECTOR_INPUT in encoded:
            encoded[VECTOR_INPUT] = encoded[VECTOR_INPUT].astype(np.float32)
        return [np.asarray(output) for output in self.graph.run(outputs, encoded)]

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """Nothing for an empty history, or where the vector is not finite."""
        if self._cut is not None:
            return self._propose_within(self._cut, block, policy, k)
        queries_BD = self.encode(block.histories)
        silent_B = block.histories.ends == block.histories.starts
        silent_B |= ~np.isfinite(queries_BD.sum(axis=1))
        if not silent_B.any():
            return self.index.search(queries_BD, block, policy, k)
        items_BK = np.zeros((len(block), k), np.int64)
        scores_BK = np.full((len(block), k), NOTHING, np.float32)
        rows = np.flatnonzero(~silent_B)
        if len(rows):
            found = self.index.search(queries_BD[rows], block.of_rows(rows), policy, k)
            items_BK[rows], scores_BK[rows] = found.items, found.scores
        return Proposals(items_BK, scores_BK)

    def _propose_within(self, cut: CategoryCut, block: Block, policy: Policy, k: int) -> Proposals:
        """As `propose`, among the items of the likeliest categories."""
        assert self._spec.cut is not None
        logits = self._outputs[1 + self.predicted.index(self._spec.cut.column)]
        queries_BD, logits_BC = self._encode(block.histories, [self._outputs[0], logits])
        found = cut.search(queries_BD, logits_BC, block, policy, k)
        silent_B = block.histories.ends == block.histories.starts
        silent_B |= ~np.isfinite(queries_BD.sum(axis=1))
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

    def with_items(self, new: NewItems) -> "ModelSource":
        """Encode and index new items. Raises RequestError for a model without an item encoder."""
        if self._graphs.items is None:
            raise RequestError(
                f"the source {self.name!r} ({self._spec.model}) knows items by id only: train and "
                f"export again, with the new items in the log or with a model that reads attributes"
            )
        vectors_ND = self._graphs.items.encode(new.attributes).astype(np.float16)
        if not np.isfinite(vectors_ND).all():
            raise BundleError(f"the item encoder of {self.name!r} gives values that are not finite")
        vectors_VD = np.concatenate([self.vectors_VD, vectors_ND])
        table = {
            name: np.concatenate([self._item_table[name], new.attributes[name]])
            for name in self._attributes()
        }
        index = extend_index(self.index, vectors_VD)
        sizes = self._graphs.sizes(self._spec, Path())
        cut = cut_of(self._spec, sizes, table, vectors_VD)
        return ModelSource(self._spec, self._graphs, vectors_VD, table, index, cut)

    def _attributes(self) -> list[str]:
        """Names of the item attributes that history encoder and cut read, but the vector."""
        named = [name.removeprefix("item.") for name in self.inputs if name.startswith("item.")]
        named += [self._spec.cut.column] if self._spec.cut else []
        sentences = [SENTENCE] if any(name in TOKEN_INPUTS for name in self.inputs) else []
        return [name for name in dict.fromkeys((*named, *sentences)) if name != VECTOR]

    def write(self, directory: Path) -> None:
        """Write the item vectors."""
        np.save(directory / self._spec.vectors, self.vectors_VD)
