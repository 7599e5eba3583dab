"""The item encoder of a model that reads attributes, as an ONNX graph for items to come."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encode import SENTENCE
from recsys.export.onnx import TOLERANCE, write_graph
from recsys.models.interface import ItemBatch, Retriever
from serving.errors import BundleError
from serving.item_encoder import ItemEncoder
from serving.manifest import ItemParity

EXAMPLES = 3
"""Rows shown to the exporter."""
COUNTS = (1, 7, 300)
"""Items a parity check encodes at once, at most."""
CALIBRATION, CALIBRATION_ROWS = 256, 8
"""Items by which the ranges of 8-bit products are set, and how many of them go together."""
COMPARED = 1_000
"""Items whose neighbours are compared, at most."""
NEIGHBOURS, TIED = 10, 0.01
"""A neighbour is kept where it is as near as the tenth true one, or less so by this share of the
greatest similarity."""
LEAST_KEPT = 0.95
"""Share of neighbours below which a graph of 8-bit products is not published."""


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
    """Write the graph to `path`: any number of items, sentences of any width, weights inside."""
    example = _tensors(
        model, item_table, np.arange(EXAMPLES) % len(item_table[model.item_inputs[0]])
    )
    widths = ({1: "tokens"} if name == SENTENCE else {} for name in model.item_inputs)
    dynamic = {"values": tuple({0: "items", **width} for width in widths)}
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


def quantize_item_encoder(
    model: Retriever, item_table: Mapping[str, NDArray], exact: Path, path: Path
) -> ItemParity:
    """Write to `path` the graph at `exact` with 8-bit products, and compare the two.

    Raises BundleError where too many items get other neighbours.
    """
    from recsys.export.quantize import quantize  # noqa: PLC0415 (slow to load, seldom wanted)

    names, draw = model.item_inputs, np.random.default_rng(0)
    ids = draw.permutation(len(item_table[names[0]]) - 1) + 1
    parts = [
        ids[first : first + CALIBRATION_ROWS]
        for first in range(0, min(CALIBRATION, len(ids)), CALIBRATION_ROWS)
    ]
    quantize(exact, [{name: item_table[name][rows] for name in names} for rows in parts], path)
    rows = {name: item_table[name][np.sort(ids[-COMPARED:])] for name in names}
    true_ND, found_ND = (
        ItemEncoder.load(graph, names, model.dim).encode(rows) for graph in (exact, path)
    )
    kept = neighbours_kept(true_ND, found_ND)
    difference, scale = float(np.abs(found_ND - true_ND).max()), float(np.abs(true_ND).max())
    if not kept >= LEAST_KEPT:  # also when it is nan
        raise BundleError(
            f"with 8-bit products items keep {kept:.1%} of their {NEIGHBOURS} nearest neighbours, "
            f"at least {LEAST_KEPT:.0%} are asked for: set export.item_precision = 'float32'"
        )
    return ItemParity(
        items=len(true_ND), max_abs_difference=difference, scale=scale, neighbours_kept=kept
    )


def neighbours_kept(true_ND: NDArray[np.float32], found_ND: NDArray[np.float32]) -> float:
    """Of the items nearest to each by `found_ND`, the share that is as near by `true_ND`.

    As near as the last of as many true neighbours, but for `TIED`.
    """
    true_NN, found_NN = true_ND @ true_ND.T, found_ND @ found_ND.T
    allowed = TIED * float(np.abs(true_NN).max())
    for scores_NN in (true_NN, found_NN):
        np.fill_diagonal(scores_NN, -np.inf)
    k = min(NEIGHBOURS, len(true_ND) - 1)
    least_N = np.partition(true_NN, -k, 1)[:, -k]
    found_NK = np.argpartition(-found_NN, k - 1, 1)[:, :k]
    near_NK = np.take_along_axis(true_NN, found_NK, 1) >= least_N[:, None] - allowed
    return float(near_NK.mean())


def _tensors(
    model: Retriever, item_table: Mapping[str, NDArray], rows: NDArray[np.integer]
) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(item_table[name][rows]) for name in model.item_inputs)
