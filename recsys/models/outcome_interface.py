"""What an outcome model is to the rest: a person's document in, probabilities and a vector out.

Shape suffixes: B persons, L positions, D width, T outcomes, P columns of probabilities.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LifeBatch:
    """B persons as documents of event tokens, oldest first, padded on the right with 0.

    tokens: (B, L) int64. days, ages: (B, L) float32, two clocks in units of the dataset.
    segments: (B, L) int64, 0 at padding. labels: (B, T) float32, nan where not known; only in
    training. masked: (B, L) int64, the token hidden at a position or 0, and orders: (B,) int64,
    whether events were kept (0), reversed (1) or shuffled (2); only in pre-training.
    """

    tokens: Tensor
    days: Tensor
    ages: Tensor
    segments: Tensor
    labels: Tensor | None = None
    masked: Tensor | None = None
    orders: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """Hidden tokens in pre-training, known labels otherwise."""
        if self.masked is not None:
            return int((self.masked > 0).sum())
        return 0 if self.labels is None else int((~self.labels.isnan()).sum())

    @property
    def real(self) -> Tensor:
        """(B, L) float32: 1 where there is a token, 0 at padding."""
        return (self.tokens > 0).float()

    def to(self, device: torch.device) -> "LifeBatch":
        """The same batch on `device`."""
        tensors = (getattr(self, name.name) for name in fields(self))
        return LifeBatch(
            *(None if x is None else x.to(device, non_blocking=True) for x in tensors)  # type: ignore[arg-type]
        )


class OutcomeModel(nn.Module, ABC):
    """Predicts what will happen to a person, and embeds the person."""

    life_inputs: ClassVar[tuple[str, ...]]
    """Names of `features.life_encode` that `predict` reads."""
    max_len: int
    """Longest document, in tokens."""
    dim: int
    """Width of a person's vector."""

    @abstractmethod
    def predict(self, batch: LifeBatch) -> tuple[Tensor, Tensor]:
        """Probabilities (B, P) of all outcomes, and person vectors (B, D)."""

    @abstractmethod
    def loss(self, batch: LifeBatch) -> Tensor:
        """Mean loss of the outcomes (nats) over the batch's known labels."""
