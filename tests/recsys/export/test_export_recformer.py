"""Recformer's graph against torch, at lengths around the window, cut and empty."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from recsys.export.onnx import export_encoder, measure_parity
from recsys.models.interface import Column, HistoryBatch
from recsys.models.recformer import Recformer, RecformerConfig

WORDS = 60


def sentences() -> np.ndarray:
    draw = np.random.default_rng(0)
    table = draw.integers(1, WORDS, (31, 9)).astype(np.int32)
    table[:, 0] *= -1
    table[np.arange(9) >= draw.integers(2, 10, 31)[:, None]] = 0
    table[0] = 0
    return table


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recformer, Path]:
    torch.manual_seed(0)
    config = RecformerConfig(
        columns=(Column(name="sentence", kind="sentence", size=WORDS, width=9),),
        dim=16,
        num_blocks=3,
        num_heads=2,
        hidden=32,
        max_tokens=256,
    )
    model = Recformer(config).eval()
    for parameter in model.encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_encoder(model, {"sentence": sentences()}, 30, path)
    return model, path


@pytest.mark.parametrize("length", [1, 7, 64, 65, 256, 300])
def test_the_graph_equals_torch(exported: tuple[Recformer, Path], length: int) -> None:
    model, path = exported
    draw = torch.Generator().manual_seed(length)
    tokens = torch.randint(1, WORDS, (3, length), generator=draw)
    lengths = torch.tensor([length, max(length // 2, 1), 1])[:, None]
    items = (1 + torch.arange(length) // 8).clamp(max=50) * (torch.arange(length) < lengths)
    items[:, 0] = 0
    tokens = tokens * (items > 0)
    with torch.inference_mode():
        batch = HistoryBatch.of({"tokens": tokens, "token_items": items})
        expected = model.encode_history(batch).numpy()
    feed = {"tokens": tokens.numpy(), "token_items": items.numpy()}
    (found,) = onnxruntime.InferenceSession(path).run(None, feed)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_parity_is_measured_from_no_event_to_the_most(exported: tuple[Recformer, Path]) -> None:
    model, path = exported
    results = measure_parity(model, {"sentence": sentences()}, 30, path)
    assert {one.length for one in results} == {0, 1, 2, 17, 50}
    assert max(one.max_abs_difference for one in results) < 1e-5
