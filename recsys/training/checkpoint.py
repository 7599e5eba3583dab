"""Checkpoints of an unfinished run: tensors as safetensors, progress as JSON in their header.

checkpoint.safetensors   weights, optimizer state, `Progress`; replaced atomically
best-<step>.safetensors  weights of the best validation so far; the checkpoint names the step,
                         so that a kill between the two writes cannot pair them wrongly
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

CHECKPOINT = "checkpoint.safetensors"


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run has come. Steps count from 0; `step` is the next one to do."""

    step: int = 0
    best_score: float = float("-inf")
    best_step: int = -1
    """Steps done when the best score was reached; -1 before the first validation."""
    validations_since_best: int = 0
    loss_sum: float = 0.0
    """Over the steps since the last validation."""
    seconds: float = 0.0
    """Of training and validation, over all processes that have worked on the run."""


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a sibling, force it to disk, and rename it to `path`."""
    sibling = path.with_name(f"{path.name}.new")
    write(sibling)
    with sibling.open("rb") as stream:
        os.fsync(stream.fileno())
    sibling.replace(path)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints in one directory."""

    directory: Path
    writes: bool = True
    """False on all ranks but the first: they read only."""
    least_score: float = float("-inf")
    """The best score so far of a run that starts here: only a higher one counts."""

    @property
    def path(self) -> Path:
        """The newest checkpoint."""
        return self.directory / CHECKPOINT

    def best_path(self, step: int) -> Path:
        """Weights of the validation after `step` steps."""
        return self.directory / f"best-{step}.safetensors"

    def save_best(self, model: nn.Module, step: int) -> None:
        """Keep the present weights; they become the best with the next `save`."""
        if not self.writes:
            return
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        replace_file(self.best_path(step), lambda path: save_file(weights, path))

    def save(self, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Replace the checkpoint, then drop weights that it does not name."""
        if not self.writes:
            return
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        header = {"progress": json.dumps(asdict(progress))}
        replace_file(self.path, lambda path: save_file(tensors, path, header))
        for path in self.directory.glob("best-*.safetensors"):
            if path != self.best_path(progress.best_step):
                path.unlink()

    def restore(self, model: nn.Module, optimizer: Optimizer) -> Progress:
        """Load the newest checkpoint into both; a fresh `Progress` where there is none."""
        if not self.path.exists():
            return Progress(best_score=self.least_score)
        with safe_open(self.path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
        weights: dict[str, Tensor] = {}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_file(self.path).items():
            owner, rest = name.split(".", 1)
            if owner == "model":
                weights[rest] = tensor
            else:
                index, field = rest.split(".", 1)
                state.setdefault(int(index), {})[field] = tensor
        model.load_state_dict(weights)
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
        return progress
