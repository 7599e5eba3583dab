"""The training histories as a source of a bundle: vectors, items, and the graph of the encoder."""

from pathlib import Path

import numpy as np
import torch

from features.encode import Histories, encode_histories
from features.errors import InputError
from features.store import Dataset
from recsys.export.config import ExportConfig
from recsys.export.onnx import export_encoder, measure_parity
from recsys.models.interface import HistoryBatch, Retriever
from recsys.training.batches import rows_between
from recsys.training.run import load_retriever
from serving.errors import BundleError
from serving.history_source import centred
from serving.history_spec import HistoryNeighbourSpec
from serving.model_source import VECTOR_INPUT

ENCODER = "model.encoder.onnx"
"""Shared with the source `model`, whose graph it is."""
CHUNK_EVENTS = 32_768
"""Events encoded at once."""


def export_histories(
    run: Path, data: Dataset, config: ExportConfig, directory: Path
) -> HistoryNeighbourSpec:
    """Write vectors, items and, unless it is there already, the graph.

    Raises InputError for a model that needs the item vectors of a bundle, BundleError where
    onnxruntime's numbers are not torch's.
    """
    model, name = load_retriever(run)
    if VECTOR_INPUT in model.history_inputs:
        raise InputError(
            f"{run} trained {name}, which reads item vectors: history_knn needs a model that "
            f"encodes a history by itself, such as playlist_seq2seq or sasrec"
        )
    histories = newest(data.training_histories(), config.histories.most)
    spec = HistoryNeighbourSpec(
        name="history_knn",
        model=name,
        encoder=ENCODER,
        inputs=tuple(model.history_inputs),
        vectors="history_knn.vectors.npy",
        centre="history_knn.centre.npy",
        indptr="history_knn.indptr.npy",
        items="history_knn.items.npy",
        histories=len(histories),
        max_len=model.max_len,
        dim=model.dim,
        neighbours=config.histories.neighbours,
        temperature=config.histories.temperature,
        candidates=config.candidates,
    )
    if not (directory / ENCODER).exists():
        export_encoder(model, data.item_table, data.schema.num_items, directory / ENCODER)
        measure_parity(model, data.item_table, data.schema.num_items, directory / ENCODER)
    raw_PD = history_vectors(model, histories, data)
    centre_D = raw_PD.mean(0)
    vectors_PD = centred(raw_PD, centre_D)
    if not np.isfinite(vectors_PD).all():
        raise BundleError(f"vectors of {run} are not finite: did the training diverge?")
    padded_PD = np.concatenate([np.zeros((1, model.dim), np.float32), vectors_PD])
    np.save(directory / spec.vectors, padded_PD.astype(np.float16))
    np.save(directory / spec.centre, centre_D)
    _, rows = rows_between(histories.starts, histories.ends)
    np.save(directory / spec.items, histories.items[rows].astype(np.int32))
    indptr = np.concatenate([[0], np.cumsum(histories.lengths)]).astype(np.int64)
    np.save(directory / spec.indptr, indptr)
    return spec


def newest(histories: Histories, most: int) -> Histories:
    """At most `most` of the histories (0: all), those of the newest last events, in their order."""
    if not most or len(histories) <= most:
        return histories
    order = np.argsort(histories.timestamps[histories.ends - 1], kind="stable")
    return histories.take(np.sort(order[-most:]))


def history_vectors(model: Retriever, histories: Histories, data: Dataset) -> np.ndarray:
    """Vectors (P, D) float32 of the last `max_len` events of each history."""
    order = np.argsort(histories.lengths, kind="stable")  # like lengths together: little padding
    vectors_PD = np.zeros((len(histories), model.dim), np.float32)
    first = 0
    while first < len(order):
        longest = min(int(histories.lengths[order[first]]) * 2 + 8, model.max_len)
        rows = order[first : first + max(CHUNK_EVENTS // longest, 1)]
        encoded = encode_histories(
            histories.take(rows), model.history_inputs, model.max_len, data.item_table
        )
        batch = HistoryBatch.of({name: torch.from_numpy(x) for name, x in encoded.items()})
        with torch.inference_mode():
            vectors_PD[rows] = model.encode_history(batch).float().numpy()
        first += len(rows)
    return vectors_PD
