"""Embedding tables behind one interface: plain torch, or TorchRec, which can shard them.

A `Table` may serve several features (the target's item and the history's items share one). Both
backends name their weights alike, `collection.embeddings.<table>.weight`, so that the weights of
one are the weights of the other, and a checkpoint or an export does not know which made them.

    torch      one lookup a feature; the default on one device
    torchrec   one EmbeddingCollection for all features; under `torchrun` its rows are dealt out
               over the ranks (`recsys.training.sharding`)

Ids without a bound (raw user ids, advertisements) are hashed into the rows 1.. of a table.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Backend = Literal["torch", "torchrec"]
MULTIPLIERS = (-7046029254386353131, -4658895280553007687)
"""Odd 64-bit constants of splitmix64's finaliser, as int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of embeddings."""

    name: str
    """Letters, digits and _ only: it becomes part of the name of a weight."""
    rows: int
    """Ids 0..rows - 1, of which 0 is padding (a row like any other: callers mask it)."""
    dim: int
    features: tuple[str, ...]
    """Names of the inputs that are looked up here."""
    hashed: bool = False
    """Ids are hashed into 1..rows - 1; 0 stays 0."""


class Tables(nn.Module, ABC):
    """Looks ids up. Made by `make_tables`; the subclass is the backend."""

    def __init__(self, tables: Sequence[Table]) -> None:
        super().__init__()
        self.tables = tuple(tables)
        self.owner = {feature: table for table in tables for feature in table.features}

    def forward(self, ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings (..., dim) of int64 ids (...), by feature. Features may be left out."""
        wanted = {name: self.rows_of(self.owner[name], x) for name, x in ids.items()}
        return self.look_up(wanted)

    def rows_of(self, table: Table, ids: Tensor) -> Tensor:
        """Row numbers of ids: the ids themselves, or their hashes."""
        return hashed_rows(ids, table.rows) if table.hashed else ids

    @abstractmethod
    def look_up(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings by feature."""

    @abstractmethod
    def weight(self, name: str) -> Tensor:
        """The whole table (rows, dim); of a sharded collection there is none here."""


class Plain(nn.Module):
    """Weights under the names that TorchRec gives them."""

    def __init__(self, tables: Sequence[Table], *, sparse: bool) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {table.name: nn.Embedding(table.rows, table.dim, sparse=sparse) for table in tables}
        )


class TorchTables(Tables):
    """One `nn.Embedding` a table."""

    def __init__(self, tables: Sequence[Table], *, sparse: bool) -> None:
        super().__init__(tables)
        self.collection = Plain(tables, sparse=sparse)
        self.sparse = sparse

    def look_up(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A gather each."""
        return {
            name: F.embedding(x, self.weight(self.owner[name].name), sparse=self.sparse)
            for name, x in rows.items()
        }

    def weight(self, name: str) -> Tensor:
        """The whole table (rows, dim)."""
        return self.collection.get_parameter(f"embeddings.{name}.weight")


class TorchRecTables(Tables):
    """All features in one jagged tensor, looked up by one EmbeddingCollection."""

    def __init__(self, tables: Sequence[Table], device: torch.device | None = None) -> None:
        super().__init__(tables)
        with warnings.catch_warnings():  # its own, about parts of its own that are not there
            warnings.simplefilter("ignore")
            from torchrec import EmbeddingCollection, EmbeddingConfig  # noqa: PLC0415 (slow)

        self.collection = EmbeddingCollection(
            tables=[
                EmbeddingConfig(
                    name=table.name,
                    num_embeddings=table.rows,
                    embedding_dim=table.dim,
                    feature_names=list(table.features),
                )
                for table in tables
            ],
            device=device or torch.device("cpu"),
        )

    def look_up(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every feature as one jagged row; a feature that is not asked for is an empty one."""
        from torchrec import KeyedJaggedTensor  # noqa: PLC0415

        keys = [feature for table in self.tables for feature in table.features]
        some = next(iter(rows.values()))
        empty = some.new_zeros(0)
        values = [rows[key].reshape(-1) if key in rows else empty for key in keys]
        jagged = KeyedJaggedTensor(
            keys=keys,
            values=torch.cat(values),
            lengths=torch.tensor([len(x) for x in values], device=some.device),
        )
        found = self.collection(jagged)
        return {
            name: found[name].values().reshape(*x.shape, self.owner[name].dim)
            for name, x in rows.items()
        }

    def weight(self, name: str) -> Tensor:
        """The whole table (rows, dim), while it is not sharded."""
        return self.collection.get_parameter(f"embeddings.{name}.weight")


def make_tables(
    tables: Sequence[Table],
    backend: Backend,
    *,
    sparse: bool = False,
    device: torch.device | None = None,
) -> Tables:
    """The tables behind a backend.

    sparse: gradients hold the touched rows only (torch backend; TorchRec's are dense unless its
    optimizer is fused into the backward pass). device: of the torchrec backend; `meta` allocates
    nothing, for tables that are sharded before they are filled.
    """
    if backend == "torch":
        return TorchTables(tables, sparse=sparse)
    return TorchRecTables(tables, device)


def hashed_rows(ids: Tensor, rows: int) -> Tensor:
    """int64 ids of any size to 1..rows - 1, 0 to 0: splitmix64's finaliser, then a remainder.

    Two ids share a row with probability 1 / (rows - 1). Defined by integer arithmetic alone, so the
    same on every machine and in ONNX.
    """
    x = ids
    for shift, factor in zip((30, 27), MULTIPLIERS, strict=True):
        x = (x ^ logical_shift(x, shift)) * factor
    x = logical_shift(x ^ logical_shift(x, 31), 1)  # not negative
    return torch.where(ids == 0, 0, 1 + x % (rows - 1))


def logical_shift(x: Tensor, bits: int) -> Tensor:
    """int64 shifted right, zeros coming in from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


Optimizer = Literal["adam", "sparse_adam", "rowwise_adagrad", "sgd"]
STATE = {"adam": 2.0, "sparse_adam": 2.0, "rowwise_adagrad": 0.0, "sgd": 0.0}
"""Optimizer values kept a weight; row-wise Adagrad keeps one a row, counted apart."""
DENSE_GRADIENT = ("adam",)
"""Optimizers that form a gradient as large as the table."""


@dataclass(frozen=True, slots=True)
class TableMemory:
    """Bytes of one table while it trains, of one rank."""

    name: str
    rows: int
    dim: int
    weights: int
    state: int
    gradient: int

    @property
    def total(self) -> int:
        """Bytes."""
        return self.weights + self.state + self.gradient


def memory_report(
    tables: Sequence[Table], optimizer: Optimizer, *, ranks: int = 1, lookups: int = 0
) -> list[TableMemory]:
    """What each table costs in training, float32, its rows dealt out over `ranks`.

    lookups: rows that a step touches, for the size of sparse gradients.
    """
    found = []
    for table in tables:
        rows = -(-table.rows // ranks)
        weights = 4 * rows * table.dim
        state = int(STATE[optimizer] * weights) + (4 * rows if "rowwise" in optimizer else 0)
        dense = optimizer in DENSE_GRADIENT
        gradient = weights if dense else 4 * min(lookups, rows) * table.dim
        found.append(TableMemory(table.name, rows, table.dim, weights, state, gradient))
    return found
