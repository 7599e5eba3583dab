"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018, arXiv:1808.09781).

Departures from the paper: histories are padded on the right, so causality alone hides the
padding; blocks are pre-norm throughout; attention weights are not dropped out (the fused kernel
then needs no L x L matrix); the loss is one of `losses.py`, by default cross-entropy over the whole
catalogue (arXiv:2309.07602), where the paper draws one negative.

Shape suffixes: B histories, L positions, D width, H heads, M positions with a target.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.models.layers import Dropout, at
from recsys.models.losses import Objective

INIT_STD = 0.02
"""Of both tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SASRecConfig:
    """Sizes of one SASRec."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    max_len: int = 200
    """Longest history, in events."""
    dim: int = 64
    num_blocks: int = 2
    num_heads: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim={self.dim} is not a multiple of num_heads={self.num_heads}")
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks={self.num_blocks} must be at least 1")


class Block(nn.Module):
    """Sec. III-B: attention, then a point-wise network, each as x + Dropout(f(LayerNorm(x)))."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d = config.dim
        self.num_heads = config.num_heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query_key_value, self.attention_out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.feed_forward = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Each position sees itself and the positions before it."""
        x_BLD = x_BLD + self.dropout(self.attend(self.attention_norm(x_BLD)))
        return x_BLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BLD)))

    def attend(self, x_BLD: Tensor) -> Tensor:
        """Causal multi-head self-attention."""
        heads = self.query_key_value(x_BLD).unflatten(-1, (3, self.num_heads, -1))
        query_BHLd, key_BHLd, value_BHLd = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHLd = F.scaled_dot_product_attention(
            query_BHLd, key_BHLd, value_BHLd, is_causal=True
        )
        return self.attention_out(mixed_BHLd.transpose(1, 2).flatten(2))

    def at(self, last_B: Tensor, x_BLD: Tensor) -> Tensor:
        """What `forward` gives at one position of each history, (B, D), in a third of the work:
        only keys and values are made of the others.
        """
        x_BD, normed_BLD = at(x_BLD, last_B), self.attention_norm(x_BLD)
        d = x_BD.size(1)
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query_BD = F.linear(at(normed_BLD, last_B), weight[:d], bias[:d])
        query_BH1d = query_BD.unflatten(-1, (self.num_heads, 1, -1))
        both = F.linear(normed_BLD, weight[d:], bias[d:]).unflatten(-1, (2, self.num_heads, -1))
        key_BHLd, value_BHLd = both.permute(2, 0, 3, 1, 4).unbind(0)
        seen_BL = torch.arange(x_BLD.size(1), device=x_BLD.device) <= last_B[:, None]
        mixed_BH1d = F.scaled_dot_product_attention(
            query_BH1d, key_BHLd, value_BHLd, attn_mask=seen_BL[:, None, None]
        )
        x_BD = x_BD + self.dropout(self.attention_out(mixed_BH1d.flatten(1)))
        return x_BD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BD)))


class SASRec(Retriever):
    """One state per position of a history; the state at t scores item t + 1 by inner product."""

    history_inputs = ("items",)

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.max_len, self.dim = config.max_len, config.dim
        self.item = nn.Embedding(config.num_items + 1, config.dim, padding_idx=0)  # Sec. III-A
        self.position = nn.Embedding(config.max_len, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.norm, self.dropout = nn.LayerNorm(config.dim), Dropout(config.dropout)
        for table in (self.item, self.position):
            nn.init.normal_(table.weight, std=INIT_STD)
        with torch.no_grad():
            self.item.weight[0].zero_()

    def forward(self, items_BL: Tensor) -> Tensor:
        """items_BL: (B, L) int64, right-padded with 0, L <= max_len. Returns states (B, L, D)."""
        x_BLD = self.embed(items_BL)
        for block in self.blocks:  # Sec. III-C
            x_BLD = block(x_BLD)
        return self.norm(x_BLD)

    def embed(self, items_BL: Tensor) -> Tensor:
        """Items and their places, (B, L, D)."""
        position_L = torch.arange(items_BL.size(1), device=items_BL.device)
        return self.dropout(self.item(items_BL) + self.position(position_L))

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """The state at the last event, (B, D); at the first position where there is none."""
        last_B = ((batch.items > 0).sum(1) - 1).clamp(min=0)
        x_BLD = self.embed(batch.items)
        *others, last = self.blocks
        for block in others:
            x_BLD = block(x_BLD)
        assert isinstance(last, Block)
        return self.norm(last.at(last_B, x_BLD))

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Rows of the item table, (N, D): shared by input and output (Sec. III-D)."""
        return self.item(items.ids)

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Mean of the objective (nats) over the positions that have a target."""
        assert batch.targets is not None, "a training batch has targets"
        targets_BL = batch.targets
        row_M = targets_BL.flatten().nonzero().squeeze(1)
        states_MD = self(batch.items).flatten(0, 1).index_select(0, row_M)
        return objective(states_MD, targets_BL.flatten()[row_M], self.item.weight)
