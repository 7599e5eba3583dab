"""A trained ranker as files of a bundle: item tensors, the graph of the history, a graph a stage.

1. Item tensors are computed for every item, and kept as float32, float16 or int8 with a scale of
   each row.
2. The history graph takes them for the history's own items: no table of embeddings is inside it.
3. A stage's graph takes exactly the tensors that the stage reads: it is run once and watched.
   Which of their axes may vary is found by running it at two sizes.
4. The files, opened by the code that serves them, must give torch's numbers.

Shape suffixes: B histories, L positions, C candidates, T tasks, V item ids with padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encode import BEHAVIOUR_MARK, Histories
from features.errors import InputError
from features.store import Dataset
from recsys.export.neural_parity import batch_of, items_of, sample
from recsys.export.onnx import write_graph
from recsys.models.interface import HistoryBatch, ItemBatch, Ranker, padded
from serving.errors import BundleError
from serving.manifest import GraphSpec, ItemTensorSpec, NeuralRankerSpec
from serving.neural import OWN, SCORES

Precision = Literal["float32", "float16", "int8"]
ITEM_CHUNK = 16_384
"""Items encoded at once."""
Sizes = tuple[int, int, int]
"""Histories, events of the longest, candidates."""


class Watched(dict[str, Tensor]):
    """Remembers which tensors are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.read: list[str] = []

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.read:
            self.read.append(name)
        return super().__getitem__(name)


class HistoryPart(nn.Module):
    """`encode_history` with tensors by position."""

    def __init__(self, model: Ranker, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """values: model inputs and own item tensors, in the order of the names."""
        named = dict(zip(self.names, values, strict=True))
        own = {n.removeprefix(OWN): x for n, x in named.items() if n.startswith(OWN)}
        batch = HistoryBatch.of({n: x for n, x in named.items() if not n.startswith(OWN)})
        found = self.model.encode_history(batch, own)
        return tuple(found[name] for name in self.outputs)


class StagePart(nn.Module):
    """One stage with tensors by position."""

    def __init__(
        self, model: Ranker, stage: str, names: Sequence[str], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.names, self.outputs = tuple(names), tuple(outputs)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """values: what the stage reads, in the order of the names."""
        found = getattr(self.model, self.stage)(dict(zip(self.names, values, strict=True)))
        return tuple(found[name] for name in self.outputs)


@dataclass(frozen=True, slots=True)
class Traced:
    """One evaluation of a model's parts on made-up histories."""

    inputs: dict[str, Tensor]
    """Of the history graph."""
    tensors: dict[str, Tensor]
    """History and item tensors, and everything that the stages returned."""
    reads: list[list[str]]
    """What each stage read, in order."""
    writes: list[list[str]]
    """What each stage returned."""
    history: list[str]
    """History tensors that some stage reads."""

    @classmethod
    def of(cls, model: Ranker, data: Dataset, sizes: Sizes) -> "Traced":
        """Run every part once."""
        histories, candidates_BC = sample(data.schema, *sizes)
        if any(BEHAVIOUR_MARK in name for name in model.history_inputs):
            histories = of_every_behaviour(histories, len(data.schema.event_types), sizes[1])
        batch = padded(batch_of(model, data, histories), model.min_len, model.len_multiple)
        items = model.encode_items(items_of(model, data, candidates_BC))
        own = own_tensors(model, batch)
        encoded = model.encode_history(batch, own)
        tensors = encoded | items
        reads, writes = [], []
        for stage in model.stages:
            watched = Watched(tensors)
            found = getattr(model, stage)(watched)
            reads.append(watched.read)
            writes.append(list(found))
            tensors = tensors | found
        read = {name for names in reads for name in names}
        history = [name for name in encoded if name in read]
        inputs = dict(zip(model.history_inputs, history_values(model, batch), strict=True))
        inputs |= {OWN + name: values for name, values in own.items()}
        return cls(inputs, tensors, reads, writes, history)


def own_tensors(model: Ranker, batch: HistoryBatch) -> dict[str, Tensor]:
    """Item tensors of the histories' own items, by the names of `history_items`."""
    own = {}
    for name in model.history_items:
        base, mark, code = name.partition(BEHAVIOUR_MARK)
        part = batch.by_behaviour[int(code)] if mark else batch
        own[name] = model.encode_items(ItemBatch(part.items, part.attributes))[base]
    return own


def of_every_behaviour(histories: Histories, behaviours: int, each: int) -> Histories:
    """As many histories, the first of which has `each` events of every behaviour.

    An axis of one example would be taken for fixed, and that of a rare behaviour may be that short.
    """
    events = np.tile(np.arange(1, behaviours + 1), each)
    items = np.resize(histories.items, len(events))
    empty = [np.zeros(0, np.int64)] * (len(histories) - 1)
    times = np.arange(1, len(events) + 1)
    return Histories.of([items, *empty], [times, *empty], [events, *empty])


def history_values(model: Ranker, batch: HistoryBatch) -> list[Tensor]:
    """The tensors of a batch by the names of `history_inputs`."""
    values: list[Tensor] = []
    for name in model.history_inputs:
        base, mark, code = name.partition(":")
        part = batch.by_behaviour[int(code)] if mark else batch
        base_name = base.removeprefix("item.")
        found = part.attributes[base_name] if base != base_name else getattr(part, base)
        values.append(found)
    return values


def export_neural_ranker(
    model: Ranker,
    name: str,
    data: Dataset,
    directory: Path,
    *,
    precision: Precision = "float32",
    weights: Mapping[str, float] | None = None,
) -> NeuralRankerSpec:
    """Write all files of a ranker; see `check_parity`. Raises InputError for wrong weights."""
    model = model.eval().folded()
    with torch.no_grad():
        small, large = (Traced.of(model, data, sizes) for sizes in ((2, 7, 5), (3, 11, 6)))
        if model.min_len > 7:  # so that lengths differ
            lengths = (model.min_len, model.min_len + model.len_multiple)
            small = Traced.of(model, data, (2, lengths[0], 5))
            large = Traced.of(model, data, (3, lengths[1], 6))
        history = _write_history(model, small, large, directory)
        stages = tuple(
            _write_stage(model, number, small, large, directory)
            for number in range(len(model.stages))
        )
        read = {name for stage in stages for name in stage.inputs}
        items = _write_items(model, data, read, directory, precision)
    return NeuralRankerSpec(
        model=name,
        history=history,
        stages=stages,
        items=items,
        tasks=model.tasks,
        weights=_weights(model.tasks, weights or {}),
        max_len=model.max_len,
        min_len=model.min_len,
        len_multiple=model.len_multiple,
    )


def _weights(tasks: tuple[str, ...], given: Mapping[str, float]) -> tuple[float, ...]:
    if unknown := sorted(given.keys() - set(tasks)):
        raise InputError(
            f"export.task_weights names {unknown}: the ranker's tasks are {list(tasks)}"
        )
    return tuple(float(given.get(task, 1.0)) for task in tasks)


def _write_history(model: Ranker, small: Traced, large: Traced, directory: Path) -> GraphSpec:
    spec = GraphSpec(
        graph="ranker.history.onnx", inputs=tuple(small.inputs), outputs=tuple(small.history)
    )
    part = HistoryPart(model, spec.inputs, spec.outputs)
    _write(part, spec, [small.inputs, large.inputs], directory)
    return spec


def _write_stage(
    model: Ranker, number: int, small: Traced, large: Traced, directory: Path
) -> GraphSpec:
    stage = model.stages[number]
    reads = small.reads[number]
    later = {name for names in small.reads[number + 1 :] for name in names}
    outputs = [name for name in small.writes[number] if name in later or name == SCORES]
    spec = GraphSpec(graph=f"ranker.{stage}.onnx", inputs=tuple(reads), outputs=tuple(outputs))
    part = StagePart(model, stage, spec.inputs, spec.outputs)
    _write(part, spec, [small.tensors, large.tensors], directory)
    return spec


def _write(
    part: nn.Module, spec: GraphSpec, examples: list[dict[str, Tensor]], directory: Path
) -> None:
    """Axes that differ between the two examples may vary; equal pairs of sizes vary together.

    The events of a behaviour are an axis of their own: tensors of another one may be longer.
    """
    names: dict[tuple[int, int, str], str] = {}
    dynamic: list[Any] = []
    for name in spec.inputs:
        sizes = zip(examples[0][name].shape, examples[1][name].shape, strict=True)
        code = name.partition(BEHAVIOUR_MARK)[2]
        dynamic.append(
            {
                axis: names.setdefault((*pair, code if axis else ""), f"size_{len(names)}")
                for axis, pair in enumerate(sizes)
                if pair[0] != pair[1]
            }
        )
    example = [examples[1][name].contiguous() for name in spec.inputs]
    write_graph(
        part, example, (spec.inputs, spec.outputs), {"values": tuple(dynamic)},
        directory / spec.graph,
    )  # fmt: skip


def _write_items(
    model: Ranker, data: Dataset, read: set[str], directory: Path, precision: Precision
) -> tuple[ItemTensorSpec, ...]:
    """The item tensors that history or stages read."""
    own = {name.partition(BEHAVIOUR_MARK)[0] for name in model.history_items}
    parts: dict[str, list[NDArray]] = {}
    for first in range(0, data.schema.num_items + 1, ITEM_CHUNK):
        ids = np.arange(first, min(first + ITEM_CHUNK, data.schema.num_items + 1))
        for name, values in model.encode_items(items_of(model, data, ids)).items():
            if name in read or name in own:
                parts.setdefault(name, []).append(values.numpy())
    specs = []
    for name, chunks in parts.items():
        values, file = np.concatenate(chunks), f"ranker.{name}.npy"
        if values.dtype == np.float32 and not np.isfinite(values).all():
            raise BundleError(f"item tensor {name} is not finite: did the training diverge?")
        scale_file = ""
        if values.dtype == np.float32 and precision == "int8":
            values, scale = to_int8(values)
            scale_file = f"ranker.{name}.scale.npy"
            np.save(directory / scale_file, scale)
        elif values.dtype == np.float32:
            values = values.astype(precision)
        np.save(directory / file, values)
        specs.append(
            ItemTensorSpec.model_validate(
                {
                    "name": name,
                    "values": file,
                    "dtype": str(values.dtype),
                    "shape": values.shape[1:],
                    "scale": scale_file,
                }
            )
        )
    return tuple(specs)


def to_int8(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each row in 255 steps of its own: values (V, ...) int8 and what 1 means, (V,)."""
    flat = np.abs(values.reshape(len(values), -1)).max(axis=1)
    scale = np.where(flat > 0, flat / 127, 1).astype(np.float32)
    shape = (-1, *[1] * (values.ndim - 1))
    return np.rint(values / scale.reshape(shape)).astype(np.int8), scale
