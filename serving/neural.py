"""A neural ranker: tables of items, one graph for the history, and stages for all candidates.

    once at export     item tensors          (N + 1, ...) arrays, perhaps in half precision or int8
    once a request     history graph         history, its items' tensors -> history tensors (B, ...)
    for candidates     stages in their order history tensors, item tensors (B, C, ...) -> scores

Every tensor has a name, and a stage is given those it names. Shape suffixes: B histories,
L positions, C candidates, T tasks.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.encode import BEHAVIOUR_MARK, Histories, encode_histories
from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Candidates
from serving.errors import BundleError, RequestError
from serving.formula import Formula
from serving.graphs import open_graph
from serving.manifest import GraphSpec, ItemTensorSpec, NeuralRankerSpec
from serving.new_items import NewItems
from serving.topk import NOTHING, Floats, Ints

OWN = "own."
"""Before the name of an item tensor that the history graph wants of the history's own items."""
SCORES = "scores"
CELLS = 1 << 20
"""Events x candidates scored at once: 4 MiB of scores, which stay near the processor."""

Tensors = dict[str, NDArray]


@dataclass(frozen=True, slots=True)
class Graph:
    """An opened graph with its names."""

    spec: GraphSpec
    session: ort.InferenceSession

    @classmethod
    def load(cls, bundle: Bundle, spec: GraphSpec) -> Self:
        """Open a graph; raises BundleError unless it has the inputs and outputs of `spec`."""
        session = open_graph(bundle.path / spec.graph)
        found = tuple(node.name for node in session.get_inputs())
        given = tuple(node.name for node in session.get_outputs())
        if (found, given) != (spec.inputs, spec.outputs):
            raise BundleError(
                f"{bundle.path / spec.graph} maps {found} to {given}, the manifest says "
                f"{spec.inputs} to {spec.outputs}"
            )
        return cls(spec, session)

    def run(self, tensors: Mapping[str, NDArray]) -> Tensors:
        """The outputs by name."""
        feed = {name: tensors[name] for name in self.spec.inputs}
        outputs = self.session.run(list(self.spec.outputs), feed)
        return dict(zip(self.spec.outputs, map(np.asarray, outputs), strict=True))


@dataclass(frozen=True, slots=True)
class ItemTensor:
    """One value of every item, stored small."""

    values: NDArray
    """(N + 1, ...) float32, float16, int8 or int64."""
    scale: Floats | None
    """Of int8: (N + 1,), what 1 means in that row."""

    @classmethod
    def load(cls, bundle: Bundle, spec: ItemTensorSpec) -> Self:
        """Map the arrays; raises BundleError where they do not fit the items or are not finite."""
        rows = bundle.manifest.num_items + 1
        values = bundle.array(spec.values, (rows, *spec.shape), np.dtype(spec.dtype).type)
        scale = bundle.array(spec.scale, (rows,), np.float32) if spec.scale else None
        if (spec.dtype == "int8") != (scale is not None):
            raise BundleError(
                f"{bundle.path / spec.values}: int8 values need a scale, others have none; "
                f"export the bundle again"
            )
        for array in (values, scale):
            if array is not None and not np.isfinite(array).all():
                raise BundleError(f"{bundle.path / spec.values} holds values that are not finite")
        return cls(values, scale)

    def of(self, ids: Ints) -> NDArray:
        """Rows of dense ids (...), as the graphs take them: float32 or int64."""
        found = self.values[ids]
        if self.scale is not None:
            shape = (*ids.shape, *[1] * (found.ndim - ids.ndim))
            return found.astype(np.float32) * self.scale[ids].reshape(shape)
        return found if found.dtype == np.int64 else found.astype(np.float32, copy=False)


class NeuralRanker:
    """Scores candidates by a trained model; immutable and safe to share between threads."""

    def __init__(
        self,
        spec: NeuralRankerSpec,
        history: Graph,
        stages: tuple[Graph, ...],
        items: Mapping[str, ItemTensor],
        item_table: Mapping[str, NDArray],
    ) -> None:
        self.spec, self.history, self.stages, self.items = spec, history, stages, items
        self._item_table = item_table
        self._own = [n for n in spec.history.inputs if n.startswith(OWN)]
        self._inputs = [n for n in spec.history.inputs if not n.startswith(OWN)]
        read = {name for stage in spec.stages for name in stage.inputs}
        self._of_candidates = [name for name in items if name in read]
        self._weights = np.array(spec.weights, np.float64)
        self._slopes = np.array([c.slope for c in spec.calibration] or [1.0])
        self._offsets = np.array([c.offsets[0] for c in spec.calibration] or [0.0])
        self._formula: Formula | None = None

    @classmethod
    def load(
        cls, bundle: Bundle, spec: NeuralRankerSpec, item_table: Mapping[str, NDArray]
    ) -> Self:
        """Open graphs and tables; raises BundleError where they do not fit together."""
        fitted = tuple(calibration.name for calibration in spec.calibration)
        if fitted not in ((), spec.tasks):
            raise BundleError(
                f"the ranker of {bundle.path} is calibrated for {fitted}, its tasks are "
                f"{spec.tasks}: export the bundle again"
            )
        if len(spec.weights) != len(spec.tasks) or not spec.stages:
            raise BundleError(
                f"the ranker of {bundle.path} has {len(spec.tasks)} tasks, {len(spec.weights)} "
                f"weights and {len(spec.stages)} stages: export the bundle again"
            )
        return cls(
            spec,
            Graph.load(bundle, spec.history),
            tuple(Graph.load(bundle, stage) for stage in spec.stages),
            {tensor.name: ItemTensor.load(bundle, tensor) for tensor in spec.items},
            item_table,
        )

    def encode(self, histories: Histories) -> Tensors:
        """History tensors by name, (B, ...): what does not depend on candidates."""
        encoded = encode_histories(histories, self._inputs, self.spec.max_len, self._item_table)
        whole = [name for name in encoded if BEHAVIOUR_MARK not in name]
        if whole:
            length = encoded[whole[0]].shape[1]
            multiple = self.spec.len_multiple
            wanted = -(-max(length, self.spec.min_len) // multiple) * multiple
            for name in whole:
                encoded[name] = _widen(encoded[name], wanted)
        for name in self._own:
            base, mark, code = name.removeprefix(OWN).partition(BEHAVIOUR_MARK)
            encoded[name] = self.items[base].of(encoded[f"items{mark}{code}"])
        return self.history.run(encoded)

    def score_encoded(self, history: Tensors, items_BC: Ints) -> Floats:
        """Log-odds (B, C, T) of candidates after encoded histories; of padding, whatever it is.

        After a long history the candidates go through the stages a few at a time.
        """
        longest = max((x.shape[1] for x in history.values() if x.ndim > 1), default=1)
        size = max(CELLS // (len(items_BC) * longest), 1)
        if size >= items_BC.shape[1]:
            return self._score_at_once(history, items_BC)
        firsts = range(0, items_BC.shape[1], size)
        parts = [self._score_at_once(history, items_BC[:, c : c + size]) for c in firsts]
        return np.concatenate(parts, axis=1)

    def _score_at_once(self, history: Tensors, items_BC: Ints) -> Floats:
        tensors = dict(history)
        for name in self._of_candidates:
            tensors[name] = self.items[name].of(items_BC)
        for stage in self.stages:
            tensors |= stage.run(tensors)
        return tensors[SCORES]

    def log_odds(self, histories: Histories, items_BC: Ints) -> Floats:
        """Log-odds (B, C, T), block by block of histories."""
        longest = min(int(histories.lengths.max(initial=1)), self.spec.max_len)
        size = max(CELLS // (max(longest, self.spec.min_len) * max(items_BC.shape[1], 1)), 1)
        if size >= len(histories):
            return self.score_encoded(self.encode(histories), items_BC)
        parts = []
        for first in range(0, len(histories), size):
            rows = slice(first, first + size)
            parts.append(self.score_encoded(self.encode(histories.take(rows)), items_BC[rows]))
        return np.concatenate(parts)

    def score_items(self, histories: Histories, items_BC: Ints) -> Floats:
        """(B, C) float32, higher is better; -inf for padding and where a score is not finite.

        One task: its log-odds. Several: the logarithm of a formula over calibrated probabilities,
        by default the product of their powers, click^a x buy^b.
        """
        return self._usable(self.log_odds(histories, items_BC), items_BC)

    def _usable(self, log_odds_BCT: Floats, items_BC: Ints) -> Floats:
        scores_BC = self.combined(log_odds_BCT)
        return np.where((items_BC != 0) & np.isfinite(scores_BC), scores_BC, NOTHING)

    def score(self, block: Block, candidates: Candidates) -> Floats:
        """As `serving.ranker.SecondStage`."""
        return self.score_items(block.histories, candidates.items)

    def prepare(self, block: Block, candidates: Candidates) -> Tensors:
        """The history tensors."""
        return self.encode(block.histories)

    def score_part(self, prepared: Tensors, items_BC: Ints, part: slice) -> Floats:
        """As `score`, for some candidates."""
        items_BC = np.ascontiguousarray(items_BC[:, part])
        return self._usable(self.score_encoded(prepared, items_BC), items_BC)

    def combined(self, log_odds_BCT: Floats) -> Floats:
        """One score of the tasks'."""
        if self._formula is None and log_odds_BCT.shape[-1] == 1:
            return log_odds_BCT[..., 0]
        log_p_BCT = -np.logaddexp(0, -self.calibrated(log_odds_BCT))
        if self._formula is None:
            return (log_p_BCT @ self._weights).astype(np.float32)
        by_task = {task: log_p_BCT[..., t] for t, task in enumerate(self.spec.tasks)}
        return self._formula.log_value(by_task).astype(np.float32)

    def combined_by(self, formula: Formula) -> "NeuralRanker":
        """The same ranker with another score; shares everything else. Its names are tasks."""
        other = copy.copy(self)
        other._formula = formula
        return other

    def calibrated(self, log_odds_BCT: Floats) -> NDArray[np.float64]:
        """Log-odds (B, C, T) as fitted to the validation part."""
        return log_odds_BCT.astype(np.float64) * self._slopes + self._offsets

    def probabilities(self, histories: Histories, items_BC: Ints) -> NDArray[np.float64]:
        """Calibrated probability of each task, (B, C, T)."""
        return np.exp(-np.logaddexp(0, -self.calibrated(self.log_odds(histories, items_BC))))

    def with_items(self, new: NewItems, item_table: Mapping[str, NDArray]) -> "NeuralRanker":
        """Refused with a RequestError: its item tensors are those of the items it was made with."""
        raise RequestError(
            f"the neural ranker of this bundle knows nothing of the {len(new)} new items: export "
            f"without it, or with them in the log"
        )

    def write(self, directory: Path) -> None:
        """Nothing changes, as items cannot be added."""


def _widen(array: NDArray, width: int) -> NDArray:
    if array.shape[1] >= width:
        return array
    wide = np.zeros((len(array), width, *array.shape[2:]), array.dtype)
    wide[:, : array.shape[1]] = array
    return wide
