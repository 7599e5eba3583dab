from pathlib import Path

import torch
from torch import nn

from recsys.training.checkpoint import Checkpoints, Progress


def stepped(seed: int, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    advance(model, optimizer, steps)
    return model, optimizer


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizer.step()


def test_a_restored_optimizer_continues_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = stepped(0, 5)
    progress = Progress(step=5, best_score=0.25, best_step=3, loss_sum=1.5, seconds=7.0)
    Checkpoints(tmp_path).save(model, optimizer, progress)
    other, other_optimizer = stepped(1, 0)
    assert Checkpoints(tmp_path).restore(other, other_optimizer) == progress
    advance(model, optimizer, 3)
    advance(other, other_optimizer, 3)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_drops_the_weights_it_does_not_name(tmp_path: Path) -> None:
    model, optimizer = stepped(0, 1)
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8):
        checkpoints.save_best(model, step)
    assert checkpoints.best_path(4).exists()
    checkpoints.save(model, optimizer, Progress(step=8, best_step=8))
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.safetensors", "best-8.safetensors",
    }  # fmt: skip


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    model, optimizer = stepped(0, 1)
    other_rank = Checkpoints(tmp_path, writes=False)
    other_rank.save_best(model, 1)
    other_rank.save(model, optimizer, Progress(step=1))
    assert not list(tmp_path.iterdir())
    assert other_rank.restore(model, optimizer) == Progress()
