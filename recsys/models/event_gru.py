"""A recurrent network over event tokens: the baseline that life2vec holds its transformer against.

Same embedding (tokens, clocks, segments) as `life_events`, then GRU layers in both directions.

Departures from the published baseline: padding is never read (there, sequences are not packed, so
that the backward direction starts in padding); the person's vector is the pair of last states.

Shape suffixes: B persons, L positions, D width.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys.models.layers import Dropout, at
from recsys.models.life_events import LifeEmbedding, LifeEventsConfig
from recsys.models.outcome_heads import OutcomeHeads, OutcomeShape
from recsys.models.outcome_interface import LifeBatch, OutcomeModel
from recsys.models.recurrent import read, turned


@dataclass(frozen=True, slots=True, kw_only=True)
class EventGRUConfig:
    """Sizes of one recurrent baseline; the published one has dim 256 and 3 layers."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_tokens: int
    num_prefix: int
    outcomes: tuple[OutcomeShape, ...] = (OutcomeShape("binary"),)
    vocabulary: str = ""
    """Hash of the meaning of the tokens."""
    max_len: int = 512
    """Longest document, in tokens."""
    dim: int = 64
    """Of the embedding and of both directions together; even."""
    num_layers: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % 2 or self.num_layers < 1:
            raise ValueError(
                f"dim={self.dim} must be even, num_layers={self.num_layers} at least 1"
            )


class EventGRU(OutcomeModel):
    """Two directions of GRU layers; the last state of each makes the person's vector."""

    life_inputs: ClassVar[tuple[str, ...]] = ("tokens", "days", "ages", "segments")

    def __init__(self, config: EventGRUConfig) -> None:
        super().__init__()
        self.max_len, self.dim = config.max_len, config.dim
        half = config.dim // 2
        self.embedding = LifeEmbedding(
            LifeEventsConfig(
                num_tokens=config.num_tokens,
                num_prefix=config.num_prefix,
                dim=config.dim,
                num_heads=1,
                local_heads=0,
                dropout=config.dropout,
            )
        )
        self.onward = nn.GRU(config.dim, half, config.num_layers, batch_first=True)
        self.backward_ = nn.GRU(config.dim, half, config.num_layers, batch_first=True)
        self.dropout = Dropout(config.dropout)
        self.outcomes = OutcomeHeads(config.dim, config.outcomes)

    def person(self, batch: LifeBatch) -> Tensor:
        """(B, D)."""
        x_BLD = self.embedding(batch)
        last_B = (batch.real.sum(1).long() - 1).clamp(min=0)
        ends = [
            at(read(self.onward, x_BLD), last_B),
            at(read(self.backward_, turned(x_BLD, last_B)), last_B),
        ]
        return self.dropout(torch.cat(ends, dim=1))

    def predict(self, batch: LifeBatch) -> tuple[Tensor, Tensor]:
        """Probabilities (B, P) before calibration, and person vectors (B, D)."""
        person_BD = self.person(batch)
        return self.outcomes(person_BD), person_BD

    def loss(self, batch: LifeBatch) -> Tensor:
        """Mean loss of the outcomes, nats."""
        assert batch.labels is not None, "a training batch has labels"
        return self.outcomes.loss(self.person(batch), batch.labels)
