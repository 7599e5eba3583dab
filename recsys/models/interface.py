"""What a model is to the rest: three kinds, and the tensors they take.

Shape suffixes: B histories, L positions, N items, D width, C candidates, T tasks.

A ranker is evaluated in parts, so that serving computes each as seldom as possible:

    item tensors     of an item alone: a table, made once at export          `encode_items`
    history tensors  of a history alone: once a request                      `encode_history`
    stages           of both: for all candidates of a request at once        `stages`
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn

from recsys.models.distinct import distinct_items, gather
from recsys.models.losses import Objective

ITEM_PREFIX = "item."
BEHAVIOUR_MARK = ":"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One item attribute as `features.layout.ItemColumn` describes it, for a model's configuration.

    Values of text, category and categories: 0 missing or padding, from 1 on below `size`; (N, W)
    int32 where `width` W > 1 or for text. numeric: (N,) float32, nan missing. timestamp: (N,) int64
    microseconds, 0 missing. sentence: as text, the tokens of attributes' names negated.
    """

    name: str
    kind: Literal["text", "category", "categories", "numeric", "timestamp", "sentence"]
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

    def take(self, rows: Tensor) -> "ItemBatch":
        """The items at `rows`, int64 of any number."""
        attributes = {name: x.index_select(0, rows) for name, x in self.attributes.items()}
        return ItemBatch(self.ids.index_select(0, rows), attributes)


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """B histories, oldest event first, padded on the right with 0.

    items: (B, L) int64 dense ids, L >= 1. events: (B, L) int64 behaviour codes.
    timestamps: (B, L) int64 microseconds UTC. attributes: item attribute by name, (B, L, ...).
    targets: (B, L) int64, the item to predict after each position, 0 where there is none;
    only in training. catalogue: the items 0..N, only in training and for models with `item_inputs`.
    by_behaviour: by behaviour code, the most recent events of that behaviour alone.
    tokens, token_items: (B, T) int64, the item sentences of a history, newest item first, as
    `features.encode` describes them.
    Inputs that a model does not name in `history_inputs` may be None, and items (B, 0).
    """

    items: Tensor
    events: Tensor | None = None
    timestamps: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None
    catalogue: ItemBatch | None = None
    by_behaviour: Mapping[int, "HistoryBatch"] = field(default_factory=dict)
    tokens: Tensor | None = None
    token_items: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """Positions that have an item to predict."""
        return 0 if self.targets is None else int((self.targets > 0).sum())

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], targets: Tensor | None = None) -> Self:
        """From the named inputs of `features.encode`: `items`, `item.<name>`, `items:2`, ...

        Of a model that reads tokens or single behaviours only, `items` is (B, 0).
        """
        apart: dict[int, dict[str, Tensor]] = {}
        plain: dict[str, Tensor] = {}
        for name, value in inputs.items():
            base, mark, code = name.partition(BEHAVIOUR_MARK)
            (apart.setdefault(int(code), {}) if mark else plain)[base] = value
        by_behaviour = {code: HistoryBatch.of(part) for code, part in apart.items()}
        if "items" not in plain:
            either = plain.get("tokens")
            if either is None:
                either = next(iter(by_behaviour.values())).items
            plain["items"] = either[:, :0]
        return cls(
            plain["items"],
            plain.get("events"),
            plain.get("timestamps"),
            {
                name.removeprefix(ITEM_PREFIX): value
                for name, value in plain.items()
                if name.startswith(ITEM_PREFIX)
            },
            targets,
            by_behaviour=by_behaviour,
            tokens=plain.get("tokens"),
            token_items=plain.get("token_items"),
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
            {code: part.to(device) for code, part in self.by_behaviour.items()},
            move(self.tokens),
            move(self.token_items),
        )


@dataclass(frozen=True, slots=True)
class RankingBatch:
    """Candidates after B histories, and what became of them; only in training.

    candidates: ids (B, C), 0 where there is none; attributes (B, C, ...).
    labels: (B, C, T) float32, 1 where the task's event happened.
    known: (B, C, T) bool, whether the candidate belongs to the task's sample space (conversion, for
    instance, is known among clicks only). False where there is no candidate.
    """

    history: HistoryBatch
    candidates: ItemBatch
    labels: Tensor
    known: Tensor

    @property
    def num_targets(self) -> int:
        """Labels to learn from."""
        return int(self.known.sum())

    def to(self, device: torch.device) -> "RankingBatch":
        """The same batch on `device`."""
        return RankingBatch(
            self.history.to(device),
            self.candidates.to(device),
            self.labels.to(device, non_blocking=True),
            self.known.to(device, non_blocking=True),
        )


class Retriever(nn.Module, ABC):
    """Finds candidates: an item scores the inner product of its vector and the history's."""

    history_inputs: tuple[str, ...]
    """Names of `features.encode` that `encode_history` reads. `item.vector`, for models with
    `item_inputs`, is the output of `encode_items` for each position."""
    item_inputs: tuple[str, ...] = ()
    """Names of item attributes that `encode_items` reads; empty: the id alone. A model that names
    some must not read the ids there: its item encoder is exported for items to come."""
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

    history_inputs: tuple[str, ...]
    """Names of `features.encode` that `encode_history` reads."""
    item_inputs: tuple[str, ...] = ()
    """Names of item attributes that `encode_items` reads, beside the id."""
    history_items: tuple[str, ...] = ()
    """Item tensors that `encode_history` wants of the history's own items, (B, L, ...); with a
    mark, `<name>:2`, of those of one behaviour."""
    stages: tuple[str, ...] = ("rank",)
    """Methods (tensors by name) -> tensors by name, run one after the other. Each finds the history
    tensors (B, ...), the item tensors of the candidates (B, C, ...) and what the stages before it
    returned, (B, C, ...). The last one returns `scores`, (B, C, T). Every stage becomes a graph."""
    tasks: tuple[str, ...] = ("target",)
    max_len: int
    """Longest history the model takes, in events."""
    min_len: int = 1
    """Shorter histories are padded to this by whoever calls `encode_history`."""
    len_multiple: int = 1
    """And then to a multiple of this."""

    @abstractmethod
    def encode_items(self, items: ItemBatch) -> dict[str, Tensor]:
        """Item tensors by name, (..., W) each for ids (...). They depend on the item alone."""

    @abstractmethod
    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """History tensors by name, (B, ...); `items` holds those named in `history_items`."""

    @abstractmethod
    def loss(self, batch: RankingBatch) -> Tensor:
        """Mean over the known labels (nats), plus what else the model minimises."""

    def tensors(self, batch: HistoryBatch, candidates: ItemBatch) -> dict[str, Tensor]:
        """History tensors and the item tensors of candidates (B, C): what the first stage finds.

        The history is padded as the model wants it, and each distinct item is encoded once.
        """
        batch = padded(batch, self.min_len, self.len_multiple)
        marks = list(
            dict.fromkeys(name.partition(BEHAVIOUR_MARK)[2] for name in self.history_items)
        )
        own_parts = [batch.by_behaviour[int(mark)] if mark else batch for mark in marks]
        parts = [(part.items, part.attributes) for part in own_parts]
        ids, attributes, places = distinct_items(
            [(candidates.ids, candidates.attributes), *parts], self.item_inputs
        )
        found = self.encode_items(ItemBatch(ids, attributes))
        own = {}
        for name in self.history_items:
            base, _, mark = name.partition(BEHAVIOUR_MARK)
            own[name] = gather(found[base], places[1 + marks.index(mark)])
        theirs = {name: gather(values, places[0]) for name, values in found.items()}
        return self.encode_history(batch, own) | theirs

    def folded(self) -> Self:
        """The same function for serving, with what is constant there computed once."""
        return self

    def score(self, batch: HistoryBatch, candidates: ItemBatch) -> Tensor:
        """Log-odds (B, C, T) of each task's event for candidates (B, C); higher is better."""
        tensors = self.tensors(batch, candidates)
        for stage in self.stages:
            tensors |= getattr(self, stage)(tensors)
        return tensors["scores"]


def padded(batch: HistoryBatch, min_len: int, multiple: int) -> HistoryBatch:
    """The same histories in at least `min_len` columns, a multiple of `multiple`."""
    length = batch.items.size(1)
    more = -(-max(length, min_len) // multiple) * multiple - length
    if not more:
        return batch

    def pad(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        return torch.cat([x, x.new_zeros((x.size(0), more, *x.shape[2:]))], 1)

    attributes = {name: pad(x) for name, x in batch.attributes.items()}
    return replace(
        batch,
        items=pad(batch.items),
        events=pad(batch.events),
        timestamps=pad(batch.timestamps),
        attributes=attributes,
    )
