"""What every model must do, by kind. A new line in MODELS brings these tests with it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from features.encode import Histories, encode_histories
from recsys.export.onnx import write_graph
from recsys.models import MODELS
from recsys.models.interface import Column, HistoryBatch, ItemBatch, Retriever
from recsys.models.losses import FullSoftmax, SampledSoftmax
from recsys.models.recformer import Recformer

RETRIEVERS = [name for name, entry in MODELS.items() if entry.kind == "retriever"]
NUM_ITEMS, MAX_LEN = 30, 12
CYCLES = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 3, 8, 2, 9, 0]])
"""Two histories to memorise; items 2 and 3 have different successors in each."""


def sentences() -> np.ndarray:
    """Of every item: a name of one token, and one to five others of which one is its own."""
    draw = np.random.default_rng(0)
    table = np.zeros((NUM_ITEMS + 1, 6), np.int32)
    for item in range(1, NUM_ITEMS + 1):
        rest = draw.integers(NUM_ITEMS + 2, 50, item % 5)
        table[item, : 2 + len(rest)] = [-(NUM_ITEMS + 1), item, *rest]
    return table


COLUMNS = (
    Column(name="sentence", kind="sentence", size=50, width=6),
    Column(name="title", kind="text", size=40, width=5),
    Column(name="kind", kind="category", size=NUM_ITEMS + 2),
    Column(name="tags", kind="categories", size=9, width=3),
    Column(name="price", kind="numeric"),
    Column(name="price.bucket", kind="category", size=6),
    Column(name="since", kind="timestamp"),
)


def random_table() -> dict[str, np.ndarray]:
    """Attributes of the items 0..NUM_ITEMS, as `features` encodes them; no two items are alike."""
    draw = np.random.default_rng(1)
    shape = (NUM_ITEMS + 1,)
    table = {
        "sentence": sentences(),
        "title": np.sort(draw.integers(0, 40, (*shape, 5)))[:, ::-1].astype(np.int32),
        "kind": np.arange(1, NUM_ITEMS + 2, dtype=np.int32),
        "tags": np.sort(draw.integers(0, 9, (*shape, 3)))[:, ::-1].astype(np.int32),
        "price": np.where(np.arange(NUM_ITEMS + 1) % 7, 1.5, np.nan).astype(np.float32),
        "price.bucket": draw.integers(0, 6, shape).astype(np.int32),
        "since": draw.integers(1, 10**15, shape),
    }
    for name, values in table.items():
        values[0] = np.nan if name == "price" else 0
    return table


TABLE = random_table()
SIZES: Mapping[str, Mapping[str, Any]] = {
    "m2trec": {"unknown": 0.0},
    "recformer": {
        "num_blocks": 2,
        "num_heads": 2,
        "hidden": 32,
        "window": 5,
        "max_tokens": 48,
        "temperature": 0.02,
    },
}
"""Of models whose defaults are too large for a test, or draw at random."""
LEARNING = {"recformer": (3e-3, 120, 0.4)}
LEARNING["playlist_seq2seq"] = (2e-2, 250, 0.05)
"""Learning rate, steps and greatest loss on a toy, where (2e-2, 80, 0.05) do not suit. A history of
one item is to Recformer that item, so it scores best itself: of 9 targets 2 cost log 2 at least.
Vectors of length 1 take longer."""


def small(name: str, seed: int = 0) -> Retriever:
    entry = MODELS[name]
    facts = {"num_items": NUM_ITEMS, "columns": COLUMNS, "num_behaviours": 1}
    taken = {field.name for field in fields(entry.config)} & facts.keys()
    sizes = {"max_len": MAX_LEN, "dim": 16, "dropout": 0.0, **SIZES.get(name, {})}
    torch.manual_seed(seed)
    model = entry.model(entry.config(**{key: facts[key] for key in taken}, **sizes))
    assert isinstance(model, Retriever)
    return model


def inputs_of(model: Retriever, items_BL: Tensor) -> dict[str, Tensor]:
    """What the model reads of histories; where items_BL is padded, so is every input, as much."""
    rows = [row[row > 0].tolist() for row in items_BL]
    histories = Histories.of(rows, [[item * 1_000_000 for item in row] for row in rows])
    table = {**TABLE, "vector": item_vectors(model)}
    encoded = encode_histories(histories, model.history_inputs, MAX_LEN, table)
    extra = items_BL.size(1) - max(1, *(len(row) for row in rows))
    padded = {
        name: np.pad(x, ((0, 0), (0, extra), *((0, 0),) * (x.ndim - 2)))
        for name, x in encoded.items()
    }
    return {name: torch.from_numpy(x) for name, x in padded.items()}


def item_vectors(model: Retriever) -> np.ndarray:
    """Vectors of the items 0..N, (V, D); of padding 0, as in a bundle."""
    with torch.no_grad():
        vectors_VD = model.encode_items(all_items(model)).numpy()
    return vectors_VD * (np.arange(NUM_ITEMS + 1) > 0)[:, None].astype(np.float32)


def all_items(model: Retriever) -> ItemBatch:
    """The items 0..N with what the model reads of them."""
    tables = {name: torch.from_numpy(TABLE[name]) for name in model.item_inputs}
    return ItemBatch(torch.arange(NUM_ITEMS + 1), tables)


def batch_of(model: Retriever, items_BL: Tensor, targets_BL: Tensor | None = None) -> HistoryBatch:
    """A training batch for next-item prediction, with all inputs a model may ask for."""
    inputs = inputs_of(model, items_BL[:, :-1])
    targets_BL = items_BL[:, 1:] if targets_BL is None else targets_BL
    catalogue = all_items(model) if model.item_inputs else None
    return replace(HistoryBatch.of(inputs, targets_BL), catalogue=catalogue)


def random_histories(lengths: list[int], width: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    items_BL = torch.randint(1, NUM_ITEMS + 1, (len(lengths), width), generator=draw)
    return items_BL * (torch.arange(width) < torch.tensor(lengths)[:, None])


def encoded(model: Retriever, items_BL: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval().encode_history(HistoryBatch.of(inputs_of(model, items_BL)))


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if name != "playlist_bow"])
def test_memorises_a_toy(name: str) -> None:
    model = small(name)
    rate, steps, least = LEARNING.get(name, (2e-2, 80, 0.05))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(batch_of(model, CYCLES), FullSoftmax())
        loss.backward()
        optimizer.step()
    assert loss.item() < least
    if isinstance(model, Recformer):
        model.freeze_items()
    with torch.inference_mode():
        items_VD = model.eval().encode_items(all_items(model))
    after_3 = encoded(model, torch.tensor([[1, 2, 3], [7, 3, 0]])) @ items_VD[1:].T
    assert (after_3.argmax(1) + 1).tolist() == [4, 8]


@pytest.mark.parametrize("name", RETRIEVERS)
def test_padding_does_not_matter(name: str) -> None:
    model, items_BL = small(name).eval(), random_histories([5, 3, 1], 5)
    padded_BL = torch.nn.functional.pad(items_BL, (0, 4))
    torch.testing.assert_close(encoded(model, padded_BL), encoded(model, items_BL))
    losses = [model.loss(batch_of(model, items), FullSoftmax()) for items in (items_BL, padded_BL)]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_batch_equals_its_rows(name: str) -> None:
    model, items_BL = small(name), random_histories([7, 2, 0, 5], 7)
    rows = torch.cat([encoded(model, row[None]) for row in items_BL])
    torch.testing.assert_close(encoded(model, items_BL), rows)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_the_loss_is_the_mean_over_targets(name: str) -> None:
    model, items_BL = small(name).eval(), random_histories([7, 2, 5], 7)
    apart = torch.stack([model.loss(batch_of(model, row[None]), FullSoftmax()) for row in items_BL])
    weights = torch.tensor([6.0, 1.0, 4.0]) / 11  # targets of a history of 7, 2, 5
    torch.testing.assert_close(
        model.loss(batch_of(model, items_BL), FullSoftmax()), apart @ weights
    )


@pytest.mark.parametrize("name", RETRIEVERS)
def test_only_positions_with_a_target_count(name: str) -> None:
    model, items_BL = small(name).eval(), random_histories([6, 6], 6)
    batch = batch_of(model, items_BL)
    first_L = torch.arange(5) == 0

    def loss_where(chosen_L: Tensor) -> Tensor:
        targets_BL = batch_of(model, items_BL).targets
        assert targets_BL is not None
        return model.loss(replace(batch, targets=targets_BL * chosen_L), FullSoftmax())

    whole = model.loss(batch, FullSoftmax())
    torch.testing.assert_close(whole, (loss_where(first_L) + 4 * loss_where(~first_L)) / 5)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_the_future_does_not_change_the_loss_of_the_past(name: str) -> None:
    model, items_BL = small(name).eval(), random_histories([8, 8], 8)
    changed_BL = items_BL.clone()
    changed_BL[:, 5:] = 1 + changed_BL[:, 5:] % NUM_ITEMS
    targets_BL = torch.nn.functional.pad(items_BL[:, 1:4], (0, 4))
    past = [batch_of(model, items, targets_BL) for items in (items_BL, changed_BL)]
    torch.testing.assert_close(*(model.loss(batch, FullSoftmax()) for batch in past))


@pytest.mark.parametrize("name", RETRIEVERS)
def test_an_empty_history_gives_a_finite_vector(name: str) -> None:
    assert torch.isfinite(encoded(small(name), torch.zeros(2, 3, dtype=torch.long))).all()


@pytest.mark.parametrize("name", RETRIEVERS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second, other = (small(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", RETRIEVERS)
def test_saved_then_loaded_is_unchanged(name: str, tmp_path: Path) -> None:
    model, restored, items_BL = small(name), small(name, seed=1), random_histories([4, 9], 9)
    save_model(model, str(tmp_path / "model.safetensors"))
    load_model(restored, tmp_path / "model.safetensors")
    assert torch.equal(encoded(restored, items_BL), encoded(model, items_BL))


@pytest.mark.parametrize("name", ["m2trec", "sasrec"])
def test_a_sample_of_everything_gives_the_full_softmax(name: str) -> None:
    model = small(name).eval()
    batch = batch_of(model, random_histories([6, 3], 6))
    every = SampledSoftmax(torch.arange(1, NUM_ITEMS + 1), torch.zeros(NUM_ITEMS))
    torch.testing.assert_close(model.loss(batch, every), model.loss(batch, FullSoftmax()))


@pytest.mark.parametrize("name", [name for name in RETRIEVERS if small(name).item_inputs])
def test_items_known_by_attributes_need_no_id(name: str) -> None:
    model = small(name).eval()
    rows = torch.tensor([5, 9, 5])
    few = replace(all_items(model).take(rows), ids=torch.tensor([1, 2, 99_999]))
    with torch.inference_mode():
        found = model.encode_items(few)
    torch.testing.assert_close(found, torch.from_numpy(item_vectors(model))[rows])
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-6)


class Named(nn.Module):
    """A retriever behind the positional inputs that its class names."""

    def __init__(self, model: Retriever) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        names = self.model.history_inputs
        return self.model.encode_history(HistoryBatch.of(dict(zip(names, inputs, strict=True))))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The ONNX file of a model; each is exported once."""
    folder = tmp_path_factory.mktemp("onnx")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            model = small(name).eval()
            example = tuple(inputs_of(model, random_histories([5, 3], 5)).values())
            dynamic = {"inputs": tuple({0: "batch", 1: "length"} for _ in example)}
            names = (model.history_inputs, ("history",))
            write_graph(Named(model), example, names, dynamic, path)
        return path

    return path_of


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*will not be used, since it")
@pytest.mark.filterwarnings("ignore:The (.grad|tensor) attribute")
@pytest.mark.parametrize("name", RETRIEVERS)
def test_exported_equals_torch_at_every_size(name: str, exported: Callable[[str], Path]) -> None:
    model = small(name).eval()
    session = onnxruntime.InferenceSession(str(exported(name)))
    for lengths, width in ([1], 1), ([5, 0], 5), ([7, 3, 0, 1, 6], 7), ([MAX_LEN] * 3, MAX_LEN):
        items_BL = random_histories(lengths, width, seed=width)
        feed = {key: x.numpy() for key, x in inputs_of(model, items_BL).items()}
        np.testing.assert_allclose(
            session.run(None, feed)[0], encoded(model, items_BL).numpy(), rtol=1e-4, atol=1e-5
        )
