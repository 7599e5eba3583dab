"""What a model is to the rest: three kinds, and the tensors they take.

Shape suffixes: B histories, L positions, N items, D width, C candidates, T tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from recsys.models.losses import Objective

ITEM_PREFIX = "item."


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One item attribute as `features.layout.ItemColumn` describes it, for a model's configuration.

    Values of text, category and categories: 0 missing or padding, from 1 on below `size`; (N, W)
    int32 where `width` W > 1 or for text. numeric: (N,) float32, nan missing. timestamp: (N,) int64
    microseconds, 0 missing.
    """

    name: str
    kind: Literal["text", "category", "categories", "numeric", "timestamp"]
    size: int = 0
    width: int = 1


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """N items. ids: (N,) int64 dense ids. attributes: by name, (N, ...)."""

    ids: Tensor
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "ItemBatch":
        """The same items on `device`."""
        return ItemBatch(
            self.ids.to(device), {name: x.to(device) for name, x in self.attributes.items()}
        )


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """B histories, oldest event first, padded on the right with 0.

    items: (B, L) int64 dense ids, L >= 1. events: (B, L) int64 behaviour codes.
    timestamps: (B, L) int64 microseconds UTC. attributes: item attribute by name, (B, L, ...).
    targets: (B, L) int64, the item to predict after each position, 0 where there is none;
    only in training. catalogue: the items 0..N, only in training and for models with `item_inputs`.
    Inputs that a model does not name in `history_inputs` may be None.
    """

    items: Tensor
    events: Tensor | None = None
    timestamps: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None
    catalogue: ItemBatch | None = None

    @property
    def num_targets(self) -> int:
        """Positions that have an item to predict."""
        return 0 if self.targets is None else int((self.targets > 0).sum())

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], targets: Tensor | None = None) -> Self:
        """From the named inputs of `features.encode`: `items`, `events`, `item.<name>`, ..."""
        attributes = {
            name.removeprefix(ITEM_PREFIX): value
            for name, value in inputs.items()
            if name.startswith(ITEM_PREFIX)
        }
        plain = {name: value for name, value in inputs.items() if not name.startswith(ITEM_PREFIX)}
        return cls(
            plain["items"],
            plain.get("events"),
            plain.get("timestamps"),
            attributes,
            targets,
        )

    def to(self, device: torch.device) -> "HistoryBatch":
        """The same batch on `device`; the catalogue stays where it is."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return HistoryBatch(
            self.items.to(device, non_blocking=True),
            move(self.events),
            move(self.timestamps),
            {name: value.to(device, non_blocking=True) for name, value in self.attributes.items()},
            move(self.targets),
            self.catalogue,
        )


class Retriever(nn.Module, ABC):
    """Finds candidates: an item scores the inner product of its vector and the history's."""

    history_inputs: ClassVar[tuple[str, ...]]
    """Names of `features.encode` that `encode_history` reads."""
    item_inputs: ClassVar[tuple[str, ...]] = ()
    """Names of item attributes that `encode_items` reads; empty: the id alone."""
    max_len: int
    """Longest history the model takes, in events."""
    dim: int
    """Width of both vectors."""

    @abstractmethod
    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """One vector a history, (B, D) float32. An empty history gives a finite vector."""

    @abstractmethod
    def encode_items(self, items: ItemBatch) -> Tensor:
        """One vector an item, (N, D) float32."""

    @abstractmethod
    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Mean of the objective (nats) over the batch's targets."""


class Ranker(nn.Module, ABC):
    """Scores given candidates after a history, for one or several tasks."""

    history_inputs: ClassVar[tuple[str, ...]]
    max_len: int

    @abstractmethod
    def score(self, batch: HistoryBatch, candidates_BC: Tensor) -> Tensor:
        """Scores (B, C, T) of candidates (B, C) int64; higher is better."""


class OutcomeModel(nn.Module, ABC):
    """Predicts what will happen to a person, and embeds the person."""

    history_inputs: ClassVar[tuple[str, ...]]
    max_len: int

    @abstractmethod
    def predict(self, batch: HistoryBatch) -> tuple[Tensor, Tensor]:
        """Probabilities (B, T) and person embeddings (B, D)."""
