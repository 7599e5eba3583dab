"""The sizes of the long-history rankers, and their items: fields to embeddings.

Shape suffixes: those of `interest.py`.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from recsys.models.interface import Column, ItemBatch
from recsys.models.tables import Backend, Table, Tables, make_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestConfig:
    """Sizes that all long-history rankers have."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    columns: tuple[Column, ...] = ()
    max_len: int = 200
    """Longest history, in events."""
    fields: tuple[str, ...] | None = None
    """Item columns to embed beside the id; None: all of the kinds category and categories."""
    dim: int = 16
    """Width of the representation, a field."""
    top_k: int = 20
    """Events of a history that the search keeps for a candidate."""
    num_positions: int = 2_000
    """Ranks of recency (1: newest) with an embedding of their own; older events share the last."""
    hidden: tuple[int, int] = (200, 80)
    auxiliary: bool = True
    """A second head over the whole history, in training only: the one path by which events outside
    the top K learn."""
    target_product: bool = True
    """The head also reads the product of history and target (the paper's target-aware
    representation)."""
    l2: float = 1e-6
    """Of the squared weights of the heads, biases left out; added to the loss."""
    init: Literal["paper", "torch"] = "paper"
    """paper: everything but biases from N(0, 0.01^2), scales of BatchNorm and PReLU included."""
    attend_padding: bool = False
    """As the reference, let padding take weight where fewer than top_k events are real."""
    batch_statistics: bool = False
    """As the reference, evaluate by the mean and variance of the batch; cannot be exported."""
    hash_rows: int = 0
    """Rows that item ids are hashed into; 0: a row for each item."""
    tables: Backend = "torch"

    def __post_init__(self) -> None:
        for name in ("max_len", "dim", "top_k", "num_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if unknown := set(self.fields or ()) - {c.name for c in self.columns}:
            raise ValueError(
                f"fields {sorted(unknown)} are no item columns: choose from "
                f"{[column.name for column in self.columns]}"
            )
        if wrong := [c.name for c in self.used if c.kind not in ("category", "categories")]:
            raise ValueError(f"fields {wrong} are not of kind category or categories")

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are embedded."""
        if self.fields is None:
            return tuple(c for c in self.columns if c.kind in ("category", "categories"))
        return tuple(c for c in self.columns if c.name in self.fields)


class FieldSizes(Protocol):
    """What a configuration says of the tables."""

    @property
    def num_items(self) -> int: ...  # noqa: D102
    @property
    def hash_rows(self) -> int: ...  # noqa: D102
    @property
    def num_positions(self) -> int: ...  # noqa: D102
    @property
    def tables(self) -> Backend: ...  # noqa: D102
    @property
    def used(self) -> tuple[Column, ...]: ...  # noqa: D102


class FieldEmbedding(nn.Module):
    """One table set: item, attributes, recency rank; `dim` wide each."""

    def __init__(self, config: FieldSizes, dim: int, *, timed: bool = True) -> None:
        super().__init__()
        hashed = config.hash_rows > 0
        rows = config.hash_rows + 1 if hashed else config.num_items + 1
        tables = [Table(name="item", rows=rows, dim=dim, features=("item",), hashed=hashed)]
        tables += [
            Table(name=f"column_{i}", rows=column.size, dim=dim, features=(column.name,))
            for i, column in enumerate(config.used)
        ]
        self.columns, self.dim = config.used, dim
        self.width = dim * len(tables)
        """Of all fields but time."""
        self.tables: Tables = make_tables(tables, config.tables)
        if timed:
            self.time_embedding = nn.Embedding(config.num_positions + 1, dim)

    def forward(self, items: ItemBatch) -> Tensor:
        """Fields side by side, (..., width); several values of one field are averaged."""
        ids = {"item": items.ids}
        ids |= {c.name: items.attributes[c.name].long() for c in self.columns}
        found = self.tables(ids)
        parts = [found["item"]]
        for column in self.columns:
            x, values = found[column.name], ids[column.name]
            if values.dim() > items.ids.dim():
                real = (values > 0).unsqueeze(-1).to(x.dtype)
                x = (x * real).sum(-2) / real.sum(-2).clamp(min=1)
            parts.append(x)
        return torch.cat(parts, -1)

    def now(self) -> Tensor:
        """The target's time embedding, (dim,): rank 0."""
        return self.time_embedding.weight[0]

    def time(self, rank: Tensor) -> Tensor:
        """Time embeddings of recency ranks; those beyond the table share its last row."""
        return self.time_embedding(rank.clamp(max=self.time_embedding.num_embeddings - 1))
