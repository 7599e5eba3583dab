"""The exported graph against torch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from features.encode import encode_histories
from recsys.export.onnx import _sample, export_encoder, measure_parity
from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.models.losses import Objective
from serving.errors import BundleError

TABLE = {"category": np.arange(31, dtype=np.int32) % 5}


class Attributes(Retriever):
    """Reads every kind of input: items, behaviours, times and an item attribute."""

    history_inputs = ("items", "events", "timestamps", "item.category")

    def __init__(self) -> None:
        super().__init__()
        self.max_len, self.dim = 12, 6
        self.item, self.event = nn.Embedding(31, 6), nn.Embedding(3, 6)
        self.category = nn.Embedding(5, 6)

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        assert batch.events is not None
        assert batch.timestamps is not None
        x = self.item(batch.items) + self.event(batch.events)
        x = x + self.category(batch.attributes["category"])
        days = (batch.timestamps / 86_400_000_000).float()[..., None]
        real = (batch.items > 0)[..., None]
        return (torch.log1p(days) * x * real).sum(1) / real.sum(1).clamp(min=1)

    def encode_items(self, items: ItemBatch) -> Tensor:
        return self.item(items.ids)

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        raise NotImplementedError


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Attributes, Path]:
    torch.manual_seed(1)
    model = Attributes().eval()
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_encoder(model, TABLE, 30, path)
    return model, path


def test_all_kinds_of_input_reach_the_graph(graph: tuple[Attributes, Path]) -> None:
    model, path = graph
    results = measure_parity(model, TABLE, 30, path)
    assert {(one.batch, one.length) for one in results} >= {(1, 0), (7, 12)}
    assert max(one.max_abs_difference for one in results) < 1e-5
    names = [node.name for node in onnx.load(path).graph.input]
    assert tuple(names) == model.history_inputs


def test_a_third_implementation_agrees(graph: tuple[Attributes, Path]) -> None:
    model, path = graph
    histories = _sample(30, 5, 9)
    encoded = encode_histories(histories, model.history_inputs, model.max_len, TABLE)
    reference = np.asarray(ReferenceEvaluator(str(path)).run(None, encoded)[0])
    tensors = {name: torch.from_numpy(value) for name, value in encoded.items()}
    with torch.inference_mode():
        expected = model.encode_history(HistoryBatch.of(tensors)).numpy()
    np.testing.assert_allclose(reference, expected, atol=1e-5)


def test_a_graph_of_other_weights_is_not_published(graph: tuple[Attributes, Path]) -> None:
    model, path = graph
    other = Attributes().eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.item.weight += 0.01
    with pytest.raises(BundleError, match="differs from the model by"):
        measure_parity(other, TABLE, 30, path)


def test_a_graph_that_gives_nan_is_not_published(graph: tuple[Attributes, Path]) -> None:
    model, path = graph
    broken = onnx.load(path)
    for table in broken.graph.initializer:
        if tuple(table.dims) == (31, 6):
            values = np.full((31, 6), np.nan, np.float32)
            table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    bad = path.with_name("bad.onnx")
    onnx.save(broken, bad)
    with pytest.raises(BundleError, match="differs from the model by nan"):
        measure_parity(model, TABLE, 30, bad)
