"""The second stage: an ONNX graph over point-in-time features of history and candidate.

Shape suffixes: B histories, C candidates, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.asof import ItemTimeline, feature_names, ranking_features
from features.layout import ItemColumn
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Candidates
from serving.errors import BundleError
from serving.manifest import RankerSpec
from serving.sources import open_graph
from serving.topk import NOTHING, Floats, Ints


class Ranker:
    """Scores candidates; immutable and safe to share between threads."""

    def __init__(
        self,
        graph: ort.InferenceSession,
        timeline: ItemTimeline,
        item_table: Mapping[str, NDArray],
        columns: Sequence[ItemColumn],
    ) -> None:
        self.graph = graph
        self._input = graph.get_inputs()[0].name
        self._timeline, self._item_table, self._columns = timeline, item_table, columns

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        spec: RankerSpec,
        item_table: Mapping[str, NDArray],
        columns: Sequence[ItemColumn],
    ) -> Self:
        """Open the graph; raises BundleError if this release makes other features than it wants."""
        sources = [source.name for source in bundle.manifest.sources]
        names = tuple(feature_names(columns, sources))
        if names != spec.features:
            differing = sorted(set(names) ^ set(spec.features))
            raise BundleError(
                f"the ranker of {bundle.path} was trained on other features than this release "
                f"makes ({len(differing)} differ, the first are {differing[:5]}): export again"
            )
        graph = open_graph(bundle.path / spec.graph)
        return cls(graph, ItemTimeline.open(bundle.path), item_table, columns)

    def score(self, block: Block, candidates: Candidates) -> Floats:
        """(B, C) float32, higher is better; -inf for padding and where a score is not finite."""
        return self.score_features(self.features(block, candidates), candidates.items)

    def features(self, block: Block, candidates: Candidates) -> Floats:
        """(B, C, F) float32, in the order of the graph's input."""
        return ranking_features(
            block.histories,
            block.at,
            candidates.items,
            candidates.source_scores,
            self._timeline,
            self._item_table,
            self._columns,
        )

    def score_features(self, features_BCF: Floats, items_BC: Ints) -> Floats:
        """Scores of candidates from their features, as of `score`."""
        rows = features_BCF.reshape(-1, features_BCF.shape[-1])
        output = self.graph.run(None, {self._input: rows})[0]
        assert isinstance(output, np.ndarray)
        scores_BC = output.reshape(items_BC.shape)
        return np.where((items_BC != 0) & np.isfinite(scores_BC), scores_BC, NOTHING)
