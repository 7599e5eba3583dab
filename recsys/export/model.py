"""A trained retriever as files of a bundle: the graph of its history encoder, its item vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from recsys.export.config import ExportConfig
from recsys.export.index import measure_recall, tune_refine
from recsys.export.int8_history import quantize_history_encoder
from recsys.export.item_encoder import (
    export_item_encoder,
    measure_item_parity,
    quantize_item_encoder,
)
from recsys.export.onnx import export_encoder, measure_parity, predicted
from recsys.export.reuse import known_vectors
from recsys.models.interface import ItemBatch, Retriever
from recsys.training.run import load_retriever
from serving.category_spec import CategoryCutSpec
from serving.errors import BundleError
from serving.item_encoder import ItemEncoder
from serving.manifest import IndexRecall, ItemParity, ModelSpec, Parity, Quantized
from serving.model_source import VECTOR, VECTOR_INPUT, ModelSource
from serving.recommender import Recommender

ITEM_CHUNK = 16_384
"""Items encoded at once."""
RECALL_AT = (10, 100)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What was written, and what was measured of it."""

    spec: ModelSpec
    parity: tuple[Parity, ...]
    item_parity: tuple[ItemParity, ...]
    vectors: NDArray[np.float32]
    """(N + 1, D), the item vectors before they were rounded to half precision."""
    reused: int
    """How many of them were taken from another bundle."""
    quantized: Quantized | None
    """What int8 weights of the history encoder change."""

    def measure_recall(
        self, recommender: Recommender, data: Dataset
    ) -> tuple[ModelSpec, tuple[IndexRecall, ...]]:
        """The spec with the quickest search that finds enough on the histories of the validation
        cases, and the recall of that search, which the recommender then uses.
        """
        found = [source for source in recommender.pipeline.sources if source.name == self.spec.name]
        assert isinstance(found[0], ModelSource)
        histories = data.histories(data.cases("validation"))
        refine = tune_refine(found[0], self.vectors, histories, self.spec.candidates)
        recall = measure_recall(
            found[0], self.vectors, histories, (*RECALL_AT, self.spec.candidates)
        )
        return self.spec.model_copy(update={"refine": refine}), recall


def export_model(
    run: Path, data: Dataset, config: ExportConfig, directory: Path, reuse: Path | None = None
) -> ExportedModel:
    """Write graph and vectors; raises BundleError where onnxruntime's numbers are not torch's,
    or int8 weights change too many answers.

    reuse: a bundle of the same item encoder; only items that it lacks are encoded.
    """
    model, name = load_retriever(run)
    reads_attributes = bool(model.item_inputs)
    cut = config.category_cut
    if cut is not None and cut.column not in predicted(model):
        raise InputError(
            f"export.category_cut.column = {cut.column!r}, but the model ({name}) predicts "
            f"{list(predicted(model)) or 'no categories'}: name one of these, or train with a head"
        )
    spec = ModelSpec(
        name="model",
        model=name,
        encoder="model.encoder.onnx",
        inputs=tuple(model.history_inputs),
        vectors="model.vectors.npy",
        max_len=model.max_len,
        dim=model.dim,
        candidates=config.candidates,
        item_encoder="model.items.onnx" if reads_attributes else "",
        item_inputs=tuple(model.item_inputs),
        precision=config.encoder_precision,
        predicted=predicted(model),
        cut=None if cut is None else CategoryCutSpec(column=cut.column, share=cut.share),
    )
    num_items, reused = data.schema.num_items, 0
    item_parity: tuple[ItemParity, ...] = ()
    if reads_attributes:
        _check_columns(model, data)
        graph = directory / spec.item_encoder
        item_parity = _write_item_encoder(model, data, config, graph)
        vectors_VD, reused = encode_by_graph(graph, spec, data, reuse)
    elif reuse is not None:
        raise InputError(f"{name} knows items by id: there are no vectors of {reuse} to reuse")
    else:
        vectors_VD = encode_all_items(model, data)
    half_VD = vectors_VD.astype(np.float16)
    if not np.isfinite(half_VD).all():
        raise BundleError(
            f"item vectors of {run} are not finite in half precision (greatest absolute value "
            f"{np.abs(vectors_VD).max():.3g}): did the training diverge?"
        )
    np.save(directory / spec.vectors, half_VD)
    path = directory / spec.encoder
    table = {**data.item_table, VECTOR: half_VD.astype(np.float32)}
    export_encoder(model, table, num_items, path)
    parity = measure_parity(model, table, num_items, path)
    quantized = None
    if spec.precision == "int8":
        histories = data.histories(data.cases("validation"))
        quantized = quantize_history_encoder(path, spec, table, vectors_VD, histories)
    return ExportedModel(spec, parity, item_parity, vectors_VD, reused, quantized)


def _write_item_encoder(
    model: Retriever, data: Dataset, config: ExportConfig, graph: Path
) -> tuple[ItemParity, ...]:
    """The graph in the precision that is asked for, and how far it is from torch."""
    if config.item_precision == "float32":
        export_item_encoder(model, data.item_table, graph)
        return measure_item_parity(model, data.item_table, graph)
    exact = graph.with_name(f"exact.{graph.name}")
    try:
        export_item_encoder(model, data.item_table, exact)
        parity = measure_item_parity(model, data.item_table, exact)
        return (*parity, quantize_item_encoder(model, data.item_table, exact, graph))
    finally:
        exact.unlink(missing_ok=True)


def _check_columns(model: Retriever, data: Dataset) -> None:
    if missing := sorted(set(model.item_inputs) - data.item_table.keys()):
        raise InputError(f"the model reads item attributes {missing}, which {data.path} lacks")
    if VECTOR in data.item_table and VECTOR_INPUT in model.history_inputs:
        raise InputError(
            f"{data.path} has an item column {VECTOR!r}, the name of what the model computes: "
            f"rename the column"
        )


def encode_by_graph(
    graph: Path, spec: ModelSpec, data: Dataset, reuse: Path | None = None
) -> tuple[NDArray[np.float32], int]:
    """(N + 1, D) item vectors as serving computes those of new items, row 0 zero; how many of the
    N were found in `reuse`.
    """
    table = {name: data.item_table[name] for name in spec.item_inputs}
    known_V = np.zeros(data.schema.num_items + 1, np.bool_)
    vectors_VD = np.zeros((len(known_V), spec.dim), np.float32)
    if reuse is not None:
        known_V, vectors_VD = known_vectors(reuse, graph, spec, table)
    known_V[0] = True
    if not known_V.all():
        encoder = ItemEncoder.load(graph, spec.item_inputs, spec.dim)
        vectors_VD[~known_V] = encoder.encode({name: x[~known_V] for name, x in table.items()})
    vectors_VD[0] = 0
    return vectors_VD, int(known_V.sum()) - 1 if reuse is not None else 0


def encode_all_items(model: Retriever, data: Dataset) -> NDArray[np.float32]:
    """(N + 1, D) item vectors of a model that knows items by id, row 0 zero."""
    parts = [np.zeros((1, model.dim), np.float32)]
    for start in range(1, data.schema.num_items + 1, ITEM_CHUNK):
        ids = np.arange(start, min(start + ITEM_CHUNK, data.schema.num_items + 1))
        with torch.inference_mode():
            part = model.encode_items(ItemBatch(torch.from_numpy(ids)))
        parts.append(part.float().cpu().numpy())
    return np.concatenate(parts)
