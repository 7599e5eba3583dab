"""The item encoder of a model that reads attributes, as an ONNX graph for items to come."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.export.onnx import TOLERANCE, write_graph
from recsys.models.interface import ItemBatch, Retriever
from serving.errors import BundleError
from serving.item_encoder import ItemEncoder
from serving.manifest import ItemParity

EXAMPLES = 3
"""Rows shown to the exporter."""
COUNTS = (1, 7, 300)
"""Items a parity check encodes at once, at most."""


class ItemGraph(nn.Module):
    """`encode_items` with the named attributes as positional inputs, as a graph has them."""

    def __init__(self, model: Retriever) -> None:
        super().__init__()
        self.model = model

    def forward(self, *values: Tensor) -> Tensor:
        """values: the model's `item_inputs` in order, (N, ...). Returns (N, D) float32."""
        attributes = dict(zip(self.model.item_inputs, values, strict=True))
        ids = torch.zeros(values[0].shape[0], dtype=torch.long)  # not known of items to come
        return self.model.encode_items(ItemBatch(ids, attributes)).float()


def export_item_encoder(model: Retriever, item_table: Mapping[str, NDArray], path: Path) -> None:
    """Write the graph to `path`: any number of items, weights inside."""
    example = _tensors(
        model, item_table, np.arange(EXAMPLES) % len(item_table[model.item_inputs[0]])
    )
    dynamic = {"values": tuple({0: "items"} for _ in example)}
    write_graph(ItemGraph(model), example, (model.item_inputs, ("vector",)), dynamic, path)


def measure_item_parity(
    model: Retriever, item_table: Mapping[str, NDArray], path: Path
) -> tuple[ItemParity, ...]:
    """Compare the graph with the model over random items.

    Raises BundleError where they differ by more than rounding.
    """
    graph = ItemEncoder.load(path, model.item_inputs, model.dim)
    num_ids = len(item_table[model.item_inputs[0]])
    results = []
    for count in COUNTS:
        rows = np.random.default_rng(count).integers(1, num_ids, count)
        with torch.inference_mode():
            torch_ND = ItemGraph(model)(*_tensors(model, item_table, rows)).numpy()
        onnx_ND = graph.encode({name: item_table[name][rows] for name in model.item_inputs})
        scale = float(np.abs(torch_ND).max())
        difference = float(np.abs(onnx_ND - torch_ND).max())
        if not difference <= TOLERANCE * max(scale, 1.0):  # also when it is nan
            raise BundleError(
                f"the exported item encoder differs from the model by {difference:.2g} for {count} "
                f"items (values up to {scale:.2g}): not published"
            )
        results.append(ItemParity(items=count, max_abs_difference=difference, scale=scale))
    return tuple(results)


def _tensors(
    model: Retriever, item_table: Mapping[str, NDArray], rows: NDArray[np.integer]
) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(item_table[name][rows]) for name in model.item_inputs)
