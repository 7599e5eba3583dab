"""What every ranker must do. A new line of kind `ranker` in MODELS brings these tests with it."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor

from recsys.models import MODELS
from recsys.models.interface import (
    Column,
    HistoryBatch,
    ItemBatch,
    Ranker,
    RankingBatch,
    padded,
)
from recsys.models.tasks import TaskSpec

RANKERS = [name for name, entry in MODELS.items() if entry.kind == "ranker"]
NUM_ITEMS, MAX_LEN = 30, 12
COLUMNS = (
    Column(name="colour", kind="category", size=6),
    Column(name="tags", kind="categories", size=9, width=3),
)
TASKS = (
    TaskSpec(name="click", events=("click",)),
    TaskSpec(name="buy", events=("buy",)),
    TaskSpec(name="buy_of_clicked", events=("buy",), among="click"),
)
FACTS = {
    "num_items": NUM_ITEMS,
    "num_behaviours": 2,
    "event_types": ("click", "buy"),
    "columns": COLUMNS,
    "tasks": TASKS,
}
SMALL = {"max_len": MAX_LEN, "dim": 8, "top_k": 4, "hidden": (16, 8), "dropout": 0.0}
"""Given to the models that have such a field."""


def small(name: str, seed: int = 0) -> Ranker:
    entry = MODELS[name]
    known = {field.name for field in fields(entry.config)}
    options = {key: value for key, value in (FACTS | SMALL).items() if key in known}
    torch.manual_seed(seed)
    model = entry.model(entry.config(**options))
    assert isinstance(model, Ranker)
    return model


def attributes_of(items: Tensor) -> dict[str, Tensor]:
    tags = torch.stack([2 + items % 7, 2 + items % 5, torch.zeros_like(items)], -1)
    found = {"colour": 2 + items % 4, "tags": tags}
    return {
        name: (x * (items > 0)[(...,) + (None,) * (x.dim() - items.dim())]).int()
        for name, x in found.items()
    }


def history_of(items_BL: Tensor) -> HistoryBatch:
    """All inputs that a model may ask for; even items are of behaviour 2."""
    codes = (items_BL > 0).long() * (1 + (items_BL % 2 == 0).long())
    whole = HistoryBatch(items_BL, codes, items_BL * 1_000_000, attributes_of(items_BL))
    return replace(whole, by_behaviour={code: apart(items_BL, codes, code) for code in (1, 2)})


def apart(items_BL: Tensor, codes_BL: Tensor, code: int) -> HistoryBatch:
    rows = [row[codes == code] for row, codes in zip(items_BL, codes_BL, strict=True)]
    width = max(1, *(len(row) for row in rows))
    kept = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    real = (kept > 0).long()
    return HistoryBatch(kept, real * code, kept * 1_000_000, attributes_of(kept))


def items_of(ids_BC: Tensor) -> ItemBatch:
    return ItemBatch(ids_BC, attributes_of(ids_BC))


def random_items(lengths: list[int], width: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    items_BL = torch.randint(1, NUM_ITEMS + 1, (len(lengths), width), generator=draw)
    return items_BL * (torch.arange(width) < torch.tensor(lengths)[:, None])


def scored(model: Ranker, items_BL: Tensor, candidates_BC: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval().score(history_of(items_BL), items_of(candidates_BC))


def toy(model: Ranker, rows: int = 64) -> RankingBatch:
    """The right candidate is of the colour of the newest event."""
    draw = torch.Generator().manual_seed(5)
    items_BL = torch.randint(1, NUM_ITEMS + 1, (rows, 6), generator=draw)
    candidates_BC = torch.randint(1, NUM_ITEMS + 1, (rows, 4), generator=draw)
    colour = attributes_of(candidates_BC)["colour"] == attributes_of(items_BL)["colour"][:, -1:]
    labels = colour.float().unsqueeze(-1).expand(-1, -1, len(model.tasks))
    known = torch.ones_like(labels, dtype=torch.bool)
    return RankingBatch(history_of(items_BL), items_of(candidates_BC), labels, known)


@pytest.mark.parametrize("name", RANKERS)
def test_memorises_a_toy(name: str) -> None:
    model = small(name)
    batch = toy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    model.train()
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    with torch.inference_mode():
        scores = model.eval().score(batch.history, batch.candidates)
    right = ((scores > 0) == (batch.labels > 0)).float().mean().item()
    assert right > 0.95


@pytest.mark.parametrize("name", RANKERS)
def test_scores_have_a_column_a_task(name: str) -> None:
    model = small(name)
    found = scored(model, random_items([3, 0], 5), random_items([4, 4], 4, seed=1))
    assert found.shape == (2, 4, len(model.tasks))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", RANKERS)
def test_padding_does_not_matter(name: str) -> None:
    model, items_BL = small(name), random_items([5, 3, 1, 0], 5)
    candidates_BC = random_items([4] * 4, 4, seed=1)
    whole = history_of(items_BL)
    wider = replace(
        padded(whole, 9, 1),
        by_behaviour={c: padded(h, 9, 1) for c, h in whole.by_behaviour.items()},
    )
    with torch.inference_mode():
        found = model.eval().score(wider, items_of(candidates_BC))
    torch.testing.assert_close(found, scored(model, items_BL, candidates_BC))


@pytest.mark.parametrize("name", RANKERS)
def test_a_batch_equals_its_rows_and_candidates(name: str) -> None:
    model, items_BL = small(name), random_items([7, 2, 0, 5], 7)
    candidates_BC = random_items([3] * 4, 3, seed=1)
    apart_ = [
        torch.cat([scored(model, row[None], c[None, None]) for c in candidates], 1)
        for row, candidates in zip(items_BL, candidates_BC, strict=True)
    ]
    torch.testing.assert_close(scored(model, items_BL, candidates_BC), torch.cat(apart_))


@pytest.mark.parametrize("name", RANKERS)
def test_the_history_and_the_candidate_both_matter(name: str) -> None:
    model = small(name)
    for parameter in model.parameters():  # the paper's start is too small to see anything
        torch.nn.init.normal_(parameter, std=0.3)
    items_BL, candidates_BC = random_items([6, 6], 6), random_items([5, 5], 5, seed=1)
    found = scored(model, items_BL, candidates_BC)
    other = scored(model, 1 + items_BL % NUM_ITEMS, candidates_BC)
    assert (found - other).abs().max() > 1e-4
    assert found.std(1).min() > 1e-4


@pytest.mark.parametrize("name", RANKERS)
def test_labels_outside_the_sample_space_do_not_count(name: str) -> None:
    model = small(name).eval()
    batch = toy(model, 8)
    known = batch.known.clone()
    known[:, 1:] = False
    hidden = torch.where(known, batch.labels, 1 - batch.labels)
    torch.testing.assert_close(
        model.loss(replace(batch, known=known)),
        model.loss(replace(batch, known=known, labels=hidden)),
    )


@pytest.mark.parametrize("name", RANKERS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second, other = (small(name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", RANKERS)
def test_saved_then_loaded_is_unchanged(name: str, tmp_path: Path) -> None:
    model, restored = small(name), small(name, seed=1)
    items_BL, candidates_BC = random_items([4, 9], 9), random_items([3, 3], 3, seed=1)
    save_model(model, str(tmp_path / "model.safetensors"))
    load_model(restored, tmp_path / "model.safetensors")
    assert torch.equal(
        scored(restored, items_BL, candidates_BC), scored(model, items_BL, candidates_BC)
    )


@pytest.mark.parametrize("name", RANKERS)
def test_every_parameter_learns(name: str) -> None:
    model = small(name).train()
    model.loss(toy(model)).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None]
    assert not still
