"""The second stage: trees over point-in-time features, a neural ranker, or trees that read it.

Shape suffixes: B histories, C candidates, F features.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.asof import BoundFeatures, Facts, ItemTimeline, feature_names, specifications
from features.encode import Histories
from features.layout import DatasetSchema
from features.prepared import PreparedDay
from features.question import Feature
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Candidates
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.manifest import NeuralRankerSpec, RankerSpec, TreeRankerSpec
from serving.neural import NeuralRanker
from serving.new_items import NewItems
from serving.person_vectors import PersonVectors
from serving.topk import NOTHING, Floats, Ints

NEURAL = "neural"
"""Under this name the score of a model is a feature, as if a source had proposed everything."""


class SecondStage(Protocol):
    """Scores candidates; immutable and safe to share between threads."""

    def score(self, block: Block, candidates: Candidates) -> Floats:
        """(B, C) float32, higher is better; -inf for padding and where a score is not finite."""
        ...

    def prepare(self, block: Block, candidates: Candidates) -> Any:
        """What has to be known before any candidate is scored; for one history."""
        ...

    def score_part(self, prepared: Any, items_BC: Ints, part: slice) -> Floats:
        """As `score`, for some columns of the candidates."""
        ...

    def with_items(self, new: NewItems, item_table: Mapping[str, NDArray]) -> "SecondStage":
        """The same over the table that also holds new items; raises RequestError if it cannot."""
        ...

    def write(self, directory: Path) -> None:
        """Write what `with_items` changes."""
        ...


def load_ranker(
    bundle: Bundle,
    spec: RankerSpec,
    item_table: Mapping[str, NDArray],
    schema: DatasetSchema,
) -> SecondStage:
    """The ranker that a line of the manifest describes; raises BundleError."""
    if isinstance(spec, NeuralRankerSpec):
        return NeuralRanker.load(bundle, spec, item_table)
    return Ranker.load(bundle, spec, item_table, schema)


def with_neural_scores(
    candidates: Candidates, histories: Histories, ranker: NeuralRanker
) -> Candidates:
    """The candidates with the ranker's scores as those of one more source."""
    scores_BC = ranker.score_items(histories, candidates.items)
    known_BC = np.where(scores_BC == NOTHING, np.float32(np.nan), scores_BC)
    return replace(candidates, source_scores={**candidates.source_scores, NEURAL: known_BC})


class Ranker:
    """Trees. Immutable and safe to share between threads."""

    def __init__(
        self,
        graph: ort.InferenceSession,
        timeline: ItemTimeline,
        item_table: Mapping[str, NDArray],
        schema: DatasetSchema,
        features: tuple[Feature, ...],
        neural: NeuralRanker | None = None,
        persons: PersonVectors | None = None,
    ) -> None:
        self.graph, self.neural, self.persons = graph, neural, persons
        self._input, self._outputs = graph.get_inputs()[0].name, [graph.get_outputs()[0].name]
        self._schema, self._timeline = schema, timeline
        prepared = PreparedDay.after(timeline, features, item_table)
        self._features = BoundFeatures(
            features, schema.item_columns, timeline, item_table, prepared
        )

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        spec: TreeRankerSpec,
        item_table: Mapping[str, NDArray],
        schema: DatasetSchema,
    ) -> Self:
        """Open the graph; raises BundleError if this release lacks a feature that it wants."""
        sources = [source.name for source in bundle.manifest.sources]
        sources += [NEURAL] if spec.neural else []
        columns, facts = schema.item_columns, Facts.of(schema)
        known = feature_names(columns, sources, "all", facts)
        persons = spec.persons and PersonVectors.load(bundle, spec.persons)
        made = persons.names if persons else ()
        wanted = spec.features[: len(spec.features) - len(made)]
        missing = [name for name in wanted if name not in known]
        if missing or spec.features[len(wanted) :] != made:
            raise BundleError(
                f"the ranker of {bundle.path} was trained on features that this release does not "
                f"make ({len(missing)} of {len(spec.features)}, the first are {missing[:5]}): "
                f"export again"
            )
        graph = open_graph(bundle.path / spec.graph)
        neural = spec.neural and NeuralRanker.load(bundle, spec.neural, item_table)
        timeline = ItemTimeline.open(bundle.path).delayed(spec.label_delay_days)
        features = specifications(columns, tuple(sources), wanted, facts)
        return cls(graph, timeline, item_table, schema, features, neural, persons)

    def with_items(self, new: NewItems, item_table: Mapping[str, NDArray]) -> "Ranker":
        """The same ranker over the table that also holds new items, which have no events yet."""
        neural = self.neural and self.neural.with_items(new, item_table)
        persons = self.persons and self.persons.with_items(len(new))
        timeline, schema = self._timeline.with_items(len(new)), self._schema
        features = self._features.features
        return Ranker(self.graph, timeline, item_table, schema, features, neural, persons)

    def write(self, directory: Path) -> None:
        """Write what `with_items` changes."""
        self._timeline.write(directory)

    def score(self, block: Block, candidates: Candidates) -> Floats:
        """(B, C) float32, higher is better; -inf for padding and where a score is not finite."""
        return self._score(self.prepare(block, candidates), candidates.items)

    def prepare(self, block: Block, candidates: Candidates) -> Floats:
        """Features, (B, C, F) float32, in the order of the graph's input."""
        if self.neural is not None:
            candidates = with_neural_scores(candidates, block.histories, self.neural)
        features_BCF = self._features.rows(
            block.histories, block.at, candidates.items, candidates.source_scores
        )
        if self.persons is not None:
            features_BCF = self.persons.append(features_BCF, block.histories)
        return features_BCF

    def score_part(self, prepared: Floats, items_BC: Ints, part: slice) -> Floats:
        """Scores of some candidates from the features of all."""
        return self._score(prepared[:, part], items_BC[:, part])

    def _score(self, features_BCF: Floats, items_BC: Ints) -> Floats:
        rows = features_BCF.reshape(-1, features_BCF.shape[-1])
        output = self.graph.run(self._outputs, {self._input: rows})[0]
        assert isinstance(output, np.ndarray)
        scores_BC = output.reshape(items_BC.shape)
        if np.isfinite(scores_BC.sum()) and items_BC.all():
            return scores_BC
        return np.where((items_BC != 0) & np.isfinite(scores_BC), scores_BC, NOTHING)
