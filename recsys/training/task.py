"""What the loop needs to know of a kind of model: its batches, its loss, its validation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from recsys.training.config import TrainConfig


class Batch(Protocol):
    """What one step learns from."""

    @property
    def num_targets(self) -> int:
        """Things to predict, for the count of events a second."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""
        ...


class Task(Protocol):
    """What to learn. The position in the data is the step number and nothing else."""

    @property
    def score(self) -> str:
        """The figure of `validate` that decides which weights are best; higher is better."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show everything once, over all ranks."""
        ...

    def batches(self, step: int) -> Iterator[Any]:
        """The `Batch`es of the steps `step`, `step + 1`, ... without end (the first step is 0)."""
        ...

    def loss(self, model: Any, batch: Any, step: int) -> Tensor:
        """Mean loss (nats) of a batch on the model's device; `model` is Fabric's wrapper of it."""
        ...

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures over the validation part, averaged over ranks; the model is left in training."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a training: its own task, optimizer and number of epochs.

    It starts from the best weights of the stage before it, and its own count as the best only
    where they score higher than those.
    """

    name: str
    """Its folder in the run directory; empty where it is the only one."""
    task: Task
    config: TrainConfig
