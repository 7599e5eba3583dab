"""The history encoder as an ONNX graph, and how far onnxruntime's numbers are from torch's.

Opset 23 and not less: its attention is one operator, a tenth faster, and for a model that masks
padding, below it a history of padding alone gives nan in onnxruntime. Parity covers that case.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encode import Histories, encode_histories
from recsys.export.recurrent import TRANSLATIONS
from recsys.models.categories import PredictsCategories
from recsys.models.interface import HistoryBatch, Retriever
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.manifest import Parity

OPSET = 23
TOLERANCE = 1e-4
"""Greatest difference allowed, as a share of the greatest value of the output."""
logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing

BATCHES = (1, 2, 7)
"""Histories a parity check runs at once."""


class HistoryEncoder(nn.Module):
    """`encode_history` with the named inputs as positional ones, as a graph has them.

    For a model that predicts categories their logits are further outputs.
    """

    def __init__(self, model: Retriever) -> None:
        super().__init__()
        self.model = model

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """values: the model's `history_inputs` in order. Returns (B, D) and (B, C)s, float32."""
        batch = HistoryBatch.of(dict(zip(self.model.history_inputs, values, strict=True)))
        if isinstance(self.model, PredictsCategories):
            return tuple(output.float() for output in self.model.encode_with_categories(batch))
        return (self.model.encode_history(batch).float(),)


def predicted(model: Retriever) -> tuple[str, ...]:
    """Columns of which the exported encoder gives logits."""
    return model.head_names if isinstance(model, PredictsCategories) else ()


def export_encoder(
    model: Retriever, item_table: Mapping[str, NDArray], num_items: int, path: Path
) -> None:
    """Write the graph to `path`: any batch, any length up to `max_len`, weights inside.

    The same weights give the same bytes: source paths and other notes of the exporter are removed.
    """
    example = _tensors(model, _sample(num_items, 3, max(model.max_len // 2, 2)), item_table)
    dynamic = {"values": tuple({0: "batch", 1: "length"} for _ in example)}
    outputs = ("history", *(f"category.{name}" for name in predicted(model)))
    names = (model.history_inputs, outputs)
    write_graph(HistoryEncoder(model), example, names, dynamic, path)


def write_graph(
    module: nn.Module,
    example: Sequence[Tensor],
    names: tuple[Sequence[str], Sequence[str]],
    dynamic: Mapping[str, Any],
    path: Path,
) -> None:
    """Write a module as one ONNX file. names: of the inputs and of the outputs."""
    with warnings.catch_warnings():  # torch's own, about torch's own
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*will not be used, since it shares")
        for about_recurrent_layers in ("The .grad attribute", "The tensor attributes"):
            warnings.filterwarnings("ignore", message=about_recurrent_layers)
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_shapes=dict(dynamic),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            custom_translation_table=dict(TRANSLATIONS),
        )
    assert program is not None
    graph = program.model_proto
    strip_notes(graph)
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def measure_parity(
    model: Retriever, item_table: Mapping[str, NDArray], num_items: int, path: Path
) -> tuple[Parity, ...]:
    """Compare the graph with the model at several lengths, the empty and the longest included.

    Raises BundleError where they differ by more than rounding.
    """
    graph = open_graph(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the figures do not depend on the machine's number of cores
    try:
        return _compare(model, item_table, num_items, graph)
    finally:
        torch.set_num_threads(threads)


def _compare(
    model: Retriever,
    item_table: Mapping[str, NDArray],
    num_items: int,
    graph: ort.InferenceSession,
) -> tuple[Parity, ...]:
    lengths = sorted({0, 1, 2, min(17, model.max_len), model.max_len})
    results = []
    for batch in BATCHES:
        for length in lengths:
            histories = _sample(num_items, batch, length)
            encoded = encode_histories(histories, model.history_inputs, model.max_len, item_table)
            with torch.inference_mode():
                expected = HistoryEncoder(model)(*_tensors(model, histories, item_table))
            scale = difference = 0.0
            for output, tensor in zip(graph.run(None, encoded), expected, strict=True):
                apart = float(np.abs(np.asarray(output) - tensor.numpy()).max())
                largest = float(tensor.abs().max())
                if not apart <= TOLERANCE * max(largest, 1.0):  # also when it is nan
                    raise BundleError(
                        f"the exported graph differs from the model by {apart:.2g} for {batch} "
                        f"histories of {length} events (values up to {largest:.2g}): not published"
                    )
                scale, difference = max(scale, largest), max(difference, apart)
            results.append(
                Parity(batch=batch, length=length, max_abs_difference=difference, scale=scale)
            )
    return tuple(results)


def _sample(num_items: int, batch: int, longest: int) -> Histories:
    """Random histories; the first has `longest` events, the others up to as many."""
    rng = np.random.default_rng(longest)
    lengths = [longest, *rng.integers(0, longest + 1, batch - 1).tolist()]
    items = [rng.integers(1, num_items + 1, length) for length in lengths]
    day = 86_400_000_000
    timestamps = [np.arange(1, length + 1) * day for length in lengths]
    return Histories.of(items, timestamps)


def _tensors(
    model: Retriever, histories: Histories, item_table: Mapping[str, NDArray]
) -> Sequence[Tensor]:
    encoded = encode_histories(histories, model.history_inputs, model.max_len, item_table)
    return [torch.from_numpy(encoded[name]) for name in model.history_inputs]


def strip_notes(graph: onnx.ModelProto) -> None:
    """Remove notes that hold absolute source paths and differ between two exports."""
    del graph.metadata_props[:]
    pending = [graph.graph]
    for function in graph.functions:
        del function.metadata_props[:]
        function.doc_string = ""
        for node in function.node:
            del node.metadata_props[:]
    while pending:
        part = pending.pop()
        del part.metadata_props[:]
        part.doc_string = ""
        for value in (*part.input, *part.output, *part.value_info, *part.initializer):
            del value.metadata_props[:]
            value.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
            pending.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
