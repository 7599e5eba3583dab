"""A trained retriever as files of a bundle: the graph of its history encoder, its item vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from recsys.export.index import measure_recall
from recsys.export.onnx import export_encoder, measure_parity
from recsys.models.interface import ItemBatch, Retriever
from recsys.training.run import load_retriever
from serving.errors import BundleError
from serving.manifest import IndexRecall, ModelSpec, Parity
from serving.recommender import Recommender
from serving.sources import ModelSource

ITEM_CHUNK = 16_384
"""Items encoded at once."""
RECALL_AT = (10, 100)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What was written, and what was measured of it."""

    spec: ModelSpec
    parity: tuple[Parity, ...]
    vectors: NDArray[np.float32]
    """(N + 1, D), the item vectors before they were rounded to half precision."""

    def measure_recall(self, recommender: Recommender, data: Dataset) -> tuple[IndexRecall, ...]:
        """Recall of the bundle's index, on the histories of the validation cases."""
        found = [source for source in recommender.pipeline.sources if source.name == self.spec.name]
        assert isinstance(found[0], ModelSource)
        histories = data.histories(data.cases("validation"))
        ks = (*RECALL_AT, self.spec.candidates)
        return measure_recall(found[0], self.vectors, histories, ks)


def export_model(run: Path, data: Dataset, candidates: int, directory: Path) -> ExportedModel:
    """Write graph and vectors; raises BundleError where onnxruntime's numbers are not torch's."""
    model, name = load_retriever(run)
    spec = ModelSpec(
        name="model",
        model=name,
        encoder="model.encoder.onnx",
        inputs=tuple(model.history_inputs),
        vectors="model.vectors.npy",
        max_len=model.max_len,
        dim=model.dim,
        candidates=candidates,
    )
    num_items = data.schema.num_items
    vectors_VD = encode_all_items(model, data)
    half_VD = vectors_VD.astype(np.float16)
    if not np.isfinite(half_VD).all():
        raise BundleError(
            f"item vectors of {run} are not finite in half precision (greatest absolute value "
            f"{np.abs(vectors_VD).max():.3g}): did the training diverge?"
        )
    np.save(directory / spec.vectors, half_VD)
    path = directory / spec.encoder
    export_encoder(model, data.item_table, num_items, path)
    return ExportedModel(spec, measure_parity(model, data.item_table, num_items, path), vectors_VD)


def encode_all_items(model: Retriever, data: Dataset) -> NDArray[np.float32]:
    """(N + 1, D) item vectors, row 0 zero."""
    missing = sorted(set(model.item_inputs) - data.item_table.keys())
    if missing:
        raise InputError(f"the model reads item attributes {missing}, which {data.path} lacks")
    parts = [np.zeros((1, model.dim), np.float32)]
    for start in range(1, data.schema.num_items + 1, ITEM_CHUNK):
        ids = np.arange(start, min(start + ITEM_CHUNK, data.schema.num_items + 1))
        attributes = {
            name: torch.from_numpy(data.item_table[name][ids]) for name in model.item_inputs
        }
        with torch.inference_mode():
            part = model.encode_items(ItemBatch(torch.from_numpy(ids), attributes))
        parts.append(part.float().cpu().numpy())
    return np.concatenate(parts)
