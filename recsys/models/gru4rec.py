"""GRU4Rec: session-based recommendation with a recurrent network (Hidasi et al., ICLR 2016).

The paper: arXiv:1511.06939; its successor with better losses: arXiv:1706.03847 (CIKM 2018). Items
of a session go one after the other through gated recurrent units, the state scores the next item.

Departures from the papers: batches are windows of histories, right-padded, with a target at every
position, instead of parallel sessions that run on from batch to batch; one table embeds items at
the input and scores them at the output (the later papers' "constrained embedding"), so that there
is no bias per item; the loss is one of `losses.py`, by default cross-entropy over the whole
catalogue, where the first paper ranks against the other targets of a batch (TOP1, BPR).

Shape suffixes: B histories, L positions, D width, M positions with a target, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.models.layers import Dropout, at
from recsys.models.losses import Objective
from recsys.models.recurrent import read

INIT_STD = 0.02
"""Of the item table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GRU4RecConfig:
    """Sizes of one GRU4Rec."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    max_len: int = 50
    """Longest history, in events."""
    dim: int = 64
    """Of items and of the recurrent state."""
    num_layers: int = 1
    dropout: float = 0.2
    """Of the embedded items and of the states."""

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError(f"num_layers={self.num_layers} must be at least 1")


class GRU4Rec(Retriever):
    """One state per position of a history; the state at t scores item t + 1 by inner product."""

    history_inputs = ("items",)

    def __init__(self, config: GRU4RecConfig) -> None:
        super().__init__()
        self.max_len, self.dim = config.max_len, config.dim
        self.item = nn.Embedding(config.num_items + 1, config.dim, padding_idx=0)
        self.layers = nn.GRU(config.dim, config.dim, config.num_layers, batch_first=True)
        self.project = nn.Linear(config.dim, config.dim)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=INIT_STD)
        with torch.no_grad():
            self.item.weight[0].zero_()

    def forward(self, items_BL: Tensor) -> Tensor:
        """items_BL: (B, L) int64, right-padded with 0, L <= max_len. Returns states (B, L, D)."""
        states_BLD = read(self.layers, self.dropout(self.item(items_BL)))
        return self.project(self.dropout(states_BLD))

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """The state at the last event, (B, D); at the first position where there is none."""
        states_BLD = self(batch.items)
        last_B = ((batch.items > 0).sum(1) - 1).clamp(min=0)
        return at(states_BLD, last_B)

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Rows of the item table, (N, D): shared by input and output."""
        return self.item(items.ids)

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Mean of the objective (nats) over the positions that have a target."""
        assert batch.targets is not None, "a training batch has targets"
        row_M = batch.targets.flatten().nonzero().squeeze(1)
        states_MD = self(batch.items).flatten(0, 1).index_select(0, row_M)
        return objective(states_MD, batch.targets.flatten()[row_M], self.item.weight)
