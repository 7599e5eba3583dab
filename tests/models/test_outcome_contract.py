"""What every outcome model must do. A new line in MODELS brings these tests with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor

from recsys.export.outcomes import export_graph
from recsys.models import MODELS
from recsys.models.outcome_heads import OutcomeShape
from recsys.models.outcome_interface import LifeBatch, OutcomeModel

OUTCOMES = [name for name, entry in MODELS.items() if entry.kind == "outcome"]
SHAPES = (OutcomeShape("binary"), OutcomeShape("ordinal", 3), OutcomeShape("multi_class", 4))
NUM_TOKENS, WINDOW = 30, 5


def small(name: str, seed: int = 0) -> OutcomeModel:
    entry = MODELS[name]
    torch.manual_seed(seed)
    options = {"window": WINDOW, "features": 24} if name == "life_events" else {}
    config = entry.config(
        num_tokens=NUM_TOKENS, num_prefix=2, outcomes=SHAPES, dim=16, dropout=0.0, **options
    )
    model = entry.model(config)
    assert isinstance(model, OutcomeModel)
    with torch.no_grad():  # zero-initialised gates would hide everything behind them
        for key, parameter in model.named_parameters():
            if key.rsplit(".", 1)[-1].startswith("scale_"):
                parameter.fill_(0.5)
    return model


def documents(lengths: list[int], width: int, seed: int = 0) -> LifeBatch:
    draw = torch.Generator().manual_seed(seed)
    real_BL = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    shape = (len(lengths), width)
    tokens_BL = torch.randint(1, NUM_TOKENS, shape, generator=draw) * real_BL
    days_BL = torch.rand(shape, generator=draw).cumsum(1) * 30 * real_BL
    segments_BL = torch.randint(1, 4, shape, generator=draw) * real_BL
    return LifeBatch(tokens_BL, days_BL, days_BL / 365 + 40 * real_BL, segments_BL)


def longer(batch: LifeBatch, more: int) -> LifeBatch:
    pad = torch.nn.functional.pad
    return LifeBatch(
        *(pad(x, (0, more)) for x in (batch.tokens, batch.days, batch.ages, batch.segments))
    )


def rows(batch: LifeBatch, chosen: slice | list[int]) -> LifeBatch:
    return LifeBatch(*(x[chosen] for x in (batch.tokens, batch.days, batch.ages, batch.segments)))


def predicted(model: OutcomeModel, batch: LifeBatch) -> Tensor:
    with torch.inference_mode():
        return torch.cat(model.eval().predict(batch), dim=1)


@pytest.mark.parametrize("name", OUTCOMES)
def test_memorises_a_toy(name: str) -> None:
    model, batch = small(name), documents([9, 7, 8, 9], 9)
    labels_BT = torch.tensor([[0, 0, 3], [1, 2, 1], [1, 1, 0], [0, 2, 2]]).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(replace(batch, labels=labels_BT))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    found_BP = model.eval().predict(batch)[0]
    assert (found_BP[:, 0] > 0.5).float().tolist() == labels_BT[:, 0].tolist()
    assert found_BP[:, 1:4].argmax(1).tolist() == labels_BT[:, 1].tolist()
    assert found_BP[:, 4:].argmax(1).tolist() == labels_BT[:, 2].tolist()


@pytest.mark.parametrize("more", [1, 4, WINDOW, 40])
@pytest.mark.parametrize("name", OUTCOMES)
def test_padding_does_not_matter(name: str, more: int) -> None:
    model, batch = small(name), documents([11, 6, 3], 11)
    torch.testing.assert_close(predicted(model, longer(batch, more)), predicted(model, batch))


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_batch_equals_its_rows_in_any_order(name: str) -> None:
    model, batch = small(name), documents([11, 2, 6, 9], 11)
    whole = predicted(model, batch)
    apart = torch.cat([predicted(model, rows(batch, slice(i, i + 1))) for i in range(4)])
    torch.testing.assert_close(whole, apart)
    torch.testing.assert_close(predicted(model, rows(batch, [2, 0, 3, 1])), whole[[2, 0, 3, 1]])


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second, other = (small(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", OUTCOMES)
def test_saved_then_loaded_is_unchanged(name: str, tmp_path: Path) -> None:
    model, restored, batch = small(name), small(name, seed=1), documents([4, 9], 9)
    save_model(model, str(tmp_path / "model.safetensors"))
    load_model(restored, tmp_path / "model.safetensors")
    assert torch.equal(predicted(restored, batch), predicted(model, batch))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The ONNX file of a model; each is exported once."""
    folder = tmp_path_factory.mktemp("onnx")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            export_graph(small(name).eval(), NUM_TOKENS, path)
        return path

    return path_of


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("name", OUTCOMES)
def test_exported_equals_torch_at_lengths_the_window_does_not_divide(
    name: str, exported: Callable[[str], Path]
) -> None:
    model = small(name).eval()
    session = onnxruntime.InferenceSession(str(exported(name)))
    for lengths, width in ([3], 3), ([5, 4], 5), ([11, 3, 7, 1, 6], 11), ([64, 63], 64):
        batch = documents(lengths, width, seed=width)
        feed = {key: getattr(batch, key).numpy() for key in model.life_inputs}
        found = np.concatenate([np.asarray(x) for x in session.run(None, feed)], axis=1)
        np.testing.assert_allclose(found, predicted(model, batch).numpy(), rtol=1e-4, atol=1e-5)
