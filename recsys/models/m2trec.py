"""M2TRec: metadata-aware multi-task Transformer (Shalaby et al., RecSys 2022, arXiv:2209.11824).

What the paper's abstract and its Figure 1 say, and this file does: an item is what its metadata
says, one embedding a field, concatenated, no table of items anywhere; a Transformer encoder runs
over the items of the session; the average of its outputs is the session; from it the next item and
the next item's categories, at every level, are predicted. The paper's body was not available.

Reconstructed, so not to be taken for the paper's: the fields and widths; the projection of the
concatenation to one vector per item, layer-normalised, which is input and output alike (that the
output cannot have ids follows from the claim that unseen items can be recommended); pre-norm blocks
of GELU networks; learned positions counted from the session's end; tied category heads; the weights
of the losses; hiding values in training so that "unknown" is trained.

Each prefix of a session is an example of its own, as the encoder is not causal.

Shape suffixes: B sessions, L positions, D width, H heads, N items, V items with padding, M
prefixes with a target, C values of a category column.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.attributes import INIT_STD, READABLE, ItemAttributes, choose_columns
from recsys.models.interface import Column, HistoryBatch, ItemBatch, Retriever
from recsys.models.layers import Dropout
from recsys.models.losses import Objective
from recsys.models.pooling import POOLS

VECTOR = "vector"
FIRST_VALUE = 2
"""Code of the first known value of a category column."""
GROUPS = 4
"""Parts that the prefixes are sorted into by length, so that little of a batch is padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class M2TRecConfig:
    """Sizes of one M2TRec."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    columns: tuple[Column, ...]
    fields: tuple[str, ...] | None = None
    """Item columns to read; by default all of categories and texts."""
    heads: tuple[str, ...] | None = None
    """Category columns to predict beside the item: by default all that are read but buckets of
    numbers; none makes the model single-task."""
    max_len: int = 20
    """Longest session, in events."""
    dim: int = 128
    category_dim: int = 32
    text_dim: int = 64
    num_blocks: int = 2
    num_heads: int = 4
    dropout: float = 0.1
    unknown: float = 0.02
    """Share of values shown as unknown in training."""
    pool: Literal["mean", "last", "cls"] = "mean"
    """How the session is read off the encoder's outputs; the paper averages."""
    attend_tokens: bool = False
    """Texts pooled by attention instead of the mean of their tokens."""
    cached_vectors: bool = True
    """The exported session encoder reads the items' cached vectors, not their attributes."""
    prefixes: int = 0
    """Prefixes of each window that a step learns from, drawn at random; 0 takes all."""
    category_weight: float = 1.0
    """Of each category loss beside that of the next item."""
    category_weight_end: float = 0.5
    """What `category_weight` has fallen to after `category_decay_steps`."""
    category_decay_steps: int = 2_000

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim={self.dim} is not a multiple of num_heads={self.num_heads}")
        if not self.read():
            raise ValueError(
                "the dataset has no item column of categories or texts: this model knows items by "
                "nothing else"
            )
        self.predicted()  # raises for a head that is no column

    def read(self) -> tuple[Column, ...]:
        """The columns that make an item."""
        return choose_columns(self.columns, self.fields, READABLE)

    def predicted(self) -> tuple[Column, ...]:
        """The columns with a head."""
        if self.heads is not None:
            return choose_columns(self.read(), self.heads, ("category", "categories"))
        every = choose_columns(self.read(), None, ("category", "categories"))
        return tuple(column for column in every if not column.name.endswith(".bucket"))


class Block(nn.Module):
    """Every event sees every other event of its session."""

    def __init__(self, config: M2TRecConfig) -> None:
        super().__init__()
        d = config.dim
        self.num_heads = config.num_heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query_key_value, self.attention_out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.feed_forward = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, seen_B1LL: Tensor) -> Tensor:
        """seen_B1LL: bool, which positions may be looked at."""
        heads = self.query_key_value(self.attention_norm(x_BLD))
        heads = heads.unflatten(-1, (3, self.num_heads, -1))
        query_BHLd, key_BHLd, value_BHLd = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHLd = F.scaled_dot_product_attention(query_BHLd, key_BHLd, value_BHLd, seen_B1LL)
        x_BLD = x_BLD + self.dropout(self.attention_out(mixed_BHLd.transpose(1, 2).flatten(2)))
        return x_BLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BLD)))


class CategoryHead(nn.Module):
    """Logits over the known values of a column, against the table that also reads it."""

    def __init__(self, dim: int, table: nn.Embedding) -> None:
        super().__init__()
        self.project = nn.Linear(dim, table.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings - FIRST_VALUE))

    def forward(self, session_MD: Tensor, table: nn.Embedding) -> Tensor:
        """(M, C - 2): the values from code 2 on."""
        return self.project(session_MD) @ table.weight[FIRST_VALUE:].T + self.bias

    def loss(self, session_MD: Tensor, table: nn.Embedding, codes_MW: Tensor) -> Tensor:
        """Divergence (nats) from the uniform distribution over the next item's known values.

        For a single value that is the cross-entropy; for several, the cross-entropy less what no
        model can save. codes_MW: (M, W). Mean over all M; an item of unknown category counts 0.
        """
        log_p_MC = self(session_MD, table).log_softmax(1)
        known_MW = codes_MW >= FIRST_VALUE
        found_MW = log_p_MC.gather(1, (codes_MW.long() - FIRST_VALUE).clamp(min=0)) * known_MW
        count_M = known_MW.sum(1).clamp(min=1)
        return -(found_MW.sum(1) / count_M + count_M.log()).mean()


class M2TRec(Retriever):
    """A session and an item meet in one space; both are made of metadata."""

    def __init__(self, config: M2TRecConfig) -> None:
        super().__init__()
        self.config, self.max_len, self.dim = config, config.max_len, config.dim
        widths = dict.fromkeys(READABLE, config.category_dim) | {"text": config.text_dim}
        self.attributes = ItemAttributes(
            config.read(), widths, hidden=config.unknown, attend=config.attend_tokens
        )
        self.item_inputs = self.attributes.names
        named = (VECTOR,) if config.cached_vectors else self.item_inputs
        self.history_inputs = ("items", *(f"item.{name}" for name in named))
        self.project, self.item_norm = (
            nn.Linear(self.attributes.width, self.dim),
            nn.LayerNorm(self.dim),
        )
        self.position = nn.Embedding(config.max_len, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.norm, self.dropout = nn.LayerNorm(config.dim), Dropout(config.dropout)
        self.pool = POOLS[config.pool](config.dim)
        self.query = nn.Linear(config.dim, config.dim)
        self.head_names = tuple(column.name for column in config.predicted())
        self.heads = nn.ModuleList(
            CategoryHead(config.dim, self.attributes.table(name)) for name in self.head_names
        )
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        nn.init.normal_(self.position.weight, std=INIT_STD)
        nn.init.normal_(self.query.weight, std=INIT_STD)

    def encode_items(self, items: ItemBatch) -> Tensor:
        """(N, D), from the attributes alone."""
        return self.item_norm(self.project(self.attributes(items.attributes)))

    def encode_session(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """x_BLD: item vectors, right-padded. real_BL: bool. Returns the session, (B, D)."""
        places_L = torch.arange(x_BLD.size(1), device=x_BLD.device)
        from_end_BL = (real_BL.sum(1, keepdim=True) - 1 - places_L).clamp(min=0)
        x_BLD = self.dropout(x_BLD + self.position(from_end_BL))
        x_BLD, real_BL = self.pool.start(x_BLD, real_BL)
        first_L = torch.arange(x_BLD.size(1), device=x_BLD.device) == 0
        seen_B1L = (real_BL | first_L)[:, None]  # a softmax over nothing would be nan
        seen_B1LL = seen_B1L[:, None].expand(-1, 1, x_BLD.size(1), -1)  # onnxruntime wants all four
        for block in self.blocks:
            x_BLD = block(x_BLD, seen_B1LL)
        return self.pool(self.norm(x_BLD), real_BL)

    def _session_of(self, batch: HistoryBatch) -> Tensor:
        """From cached vectors where the batch has them, else from attributes by position."""
        if VECTOR in batch.attributes:
            x_BLD = batch.attributes[VECTOR]
        else:
            flat = {name: batch.attributes[name].flatten(0, 1) for name in self.item_inputs}
            ids = batch.items.flatten()
            x_BLD = self.encode_items(ItemBatch(ids, flat)).unflatten(0, batch.items.shape)
        return self.encode_session(x_BLD, batch.items > 0)

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """The query vector of each session, (B, D)."""
        return self.query(self._session_of(batch))

    def encode_with_categories(self, batch: HistoryBatch) -> tuple[Tensor, ...]:
        """The query vector (B, D), then logits (B, C - 2) over the known values of each column with
        a head; see `recsys.models.categories`.
        """
        session_BD = self._session_of(batch)
        logits = (
            self._head(name)(session_BD, self.attributes.table(name)) for name in self.head_names
        )
        return self.query(session_BD), *logits

    def _head(self, column: str) -> CategoryHead:
        head = self.heads[self.head_names.index(column)]
        assert isinstance(head, CategoryHead)
        return head

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """The objective (nats) for the next item, plus the weighted category losses.

        The catalogue is encoded with gradient, all of it or what the objective compares.
        """
        assert batch.targets is not None, "a training batch has targets"
        assert batch.catalogue is not None, "this model reads the catalogue"
        row_M, place_M = self._chosen(batch.targets)
        target_M = batch.targets[row_M, place_M]
        items, objective, index_BL, target_index_M = _compared(batch, target_M, objective)
        vectors_VD = self.encode_items(items)
        session_MD = self._prefix_sessions(vectors_VD, index_BL, batch.items > 0, row_M, place_M)
        total = objective(self.query(session_MD), target_index_M, vectors_VD)
        weight = self._category_weight()
        for name in self.head_names:
            codes_M = batch.catalogue.attributes[name].index_select(0, target_M)
            codes_MW = codes_M if codes_M.dim() == 2 else codes_M[:, None]
            table = self.attributes.table(name)
            total = total + weight * self._head(name).loss(session_MD, table, codes_MW)
        if self.training:
            self.steps += 1
        return total

    def _chosen(self, targets_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Row and last position of the prefixes to learn from, (M,) each."""
        chosen_BL = targets_BL > 0
        if self.training and self.config.prefixes:
            lot_BL = torch.rand(targets_BL.shape, device=targets_BL.device) * chosen_BL
            kept_BK = lot_BL.topk(min(self.config.prefixes, targets_BL.size(1)), 1).indices
            chosen_BL = chosen_BL & torch.zeros_like(chosen_BL).scatter(1, kept_BK, value=True)
        row_M, place_M = chosen_BL.nonzero(as_tuple=True)
        order_M = place_M.argsort(stable=True)
        return row_M[order_M], place_M[order_M]

    def _prefix_sessions(
        self, vectors_VD: Tensor, index_BL: Tensor, real_BL: Tensor, row_M: Tensor, place_M: Tensor
    ) -> Tensor:
        """The sessions of the prefixes that end at (row, place), (M, D); places ascend."""
        size = max(-(-len(row_M) // GROUPS), 1)
        parts = []
        for row_m, place_m in zip(row_M.split(size), place_M.split(size), strict=True):
            length = int(place_m[-1]) + 1
            real_mL = torch.arange(length, device=row_m.device) <= place_m[:, None]
            real_mL = real_mL & real_BL[row_m, :length]
            x_mLD = F.embedding(index_BL[row_m, :length], vectors_VD)
            parts.append(self.encode_session(x_mLD, real_mL))
        return torch.cat(parts)

    def _category_weight(self) -> Tensor:
        start, end = self.config.category_weight, self.config.category_weight_end
        return start + (end - start) * (self.steps / self.config.category_decay_steps).clamp(max=1)


def _compared(
    batch: HistoryBatch, target_M: Tensor, objective: Objective
) -> tuple[ItemBatch, Objective, Tensor, Tensor]:
    """The items to encode, and objective, sessions and targets in row numbers of them."""
    assert batch.catalogue is not None
    if objective.compared is None:
        return batch.catalogue, objective, batch.items, target_M
    zero = torch.zeros(1, dtype=torch.long, device=target_M.device)
    ids = torch.cat([zero, batch.items.flatten(), target_M, objective.compared]).unique()
    index_BL, target_index_M = (
        torch.searchsorted(ids, x.contiguous()) for x in (batch.items, target_M)
    )
    return batch.catalogue.take(ids), objective.among(ids), index_BL, target_index_M
