"""A ranker on made-up histories: what its export is traced with, and held against torch.

Shape suffixes: B histories, L positions, C candidates, T tasks.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.encode import BEHAVIOUR_MARK, Histories, encode_histories
from features.errors import InputError
from features.layout import DatasetSchema
from features.store import Dataset
from recsys.export.onnx import TOLERANCE
from recsys.models.interface import HistoryBatch, ItemBatch, Ranker, padded
from serving.bundle import Bundle
from serving.errors import BundleError
from serving.manifest import Manifest, NeuralRankerSpec, Parity
from serving.neural import SCORES, ItemTensor, NeuralRanker

CANDIDATES = 5


def sample(
    schema: DatasetSchema, batch: int, longest: int, candidates: int
) -> tuple[Histories, NDArray]:
    """Random histories, the first of the greatest length, the last empty if there are several."""
    rng = np.random.default_rng([batch, longest])
    lengths = [longest, *rng.integers(0, longest + 1, max(batch - 2, 0)).tolist(), 0][:batch]
    items = [rng.integers(1, schema.num_items + 1, length) for length in lengths]
    day = 86_400_000_000
    events = [rng.integers(1, len(schema.event_types) + 1, length) for length in lengths]
    times = [np.arange(1, length + 1) * day for length in lengths]
    return Histories.of(items, times, events), rng.integers(
        1, schema.num_items + 1, (batch, candidates)
    )


def batch_of(model: Ranker, data: Dataset, histories: Histories) -> HistoryBatch:
    """Encoded as in training and serving."""
    inputs = encode_histories(histories, model.history_inputs, model.max_len, data.item_table)
    return HistoryBatch.of({name: torch.from_numpy(values) for name, values in inputs.items()})


def items_of(model: Ranker, data: Dataset, ids: NDArray[np.int64]) -> ItemBatch:
    """With the attributes that the model reads."""
    if missing := sorted(set(model.item_inputs) - data.item_table.keys()):
        raise InputError(f"the ranker reads item attributes {missing}, which {data.path} lacks")
    attributes = {n: torch.from_numpy(data.item_table[n][ids]) for n in model.item_inputs}
    return ItemBatch(torch.from_numpy(ids), attributes)


def check_parity(
    model: Ranker, data: Dataset, directory: Path, manifest: Manifest, spec: NeuralRankerSpec
) -> tuple[Parity, ...]:
    """Compare what serves with torch, at several lengths, given the item tensors as stored.

    Raises BundleError where they differ by more than rounding.
    """
    ranker = NeuralRanker.load(Bundle(directory, manifest, ""), spec, data.item_table)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the figures do not depend on the machine's number of cores
    found = []
    try:
        for batch in (1, 3):
            for length in sorted({0, 1, min(17, model.max_len), model.max_len}):
                histories, candidates = sample(data.schema, batch, length, CANDIDATES)
                ours = ranker.log_odds(histories, candidates)
                theirs = torch_scores(model, data, histories, candidates, ranker.items)
                scale = float(np.abs(theirs).max())
                difference = float(np.abs(ours - theirs).max())
                if not difference <= TOLERANCE * max(scale, 1.0):  # also when it is nan
                    raise BundleError(
                        f"the exported ranker differs from the model by {difference:.2g} for "
                        f"{batch} histories of {length} events (values up to {scale:.2g}): "
                        f"not published"
                    )
                found.append(
                    Parity(batch=batch, length=length, max_abs_difference=difference, scale=scale)
                )
    finally:
        torch.set_num_threads(threads)
    return tuple(found)


def torch_scores(
    model: Ranker,
    data: Dataset,
    histories: Histories,
    candidates_BC: NDArray[np.int64],
    items: Mapping[str, ItemTensor],
) -> NDArray[np.float32]:
    """The model's log-odds (B, C, T), its item tensors replaced by the stored ones."""
    with torch.inference_mode():
        batch = padded(batch_of(model, data, histories), model.min_len, model.len_multiple)
        own = {}
        for name in model.history_items:
            base, mark, code = name.partition(BEHAVIOUR_MARK)
            ids = (batch.by_behaviour[int(code)] if mark else batch).items.numpy()
            own[name] = torch.from_numpy(items[base].of(ids))
        tensors = model.encode_history(batch, own)
        tensors |= {n: torch.from_numpy(tensor.of(candidates_BC)) for n, tensor in items.items()}
        for stage in model.stages:
            tensors |= getattr(model, stage)(tensors)
        return tensors[SCORES].numpy()
