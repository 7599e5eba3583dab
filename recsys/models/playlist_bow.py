"""A playlist as a bag of its songs: what playlist seq2seq is compared with.

    mean    the mean of the songs' vectors
    sif     Arora, Liang & Ma (ICLR 2017): u = mean of a / (a + p(s)) v_s, p the share of the songs
            played that are s; z = u - (u'q) q, q the first right singular vector of all u of the
            training playlists

q is fitted once and stored: a query never moves it. z has length 1.

Shape suffixes: B playlists, L positions, D width, M positions with a target, V ids with padding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.models.losses import Objective

SIF_A = 1e-3
"""The paper's a."""
TEMPERATURE = 0.05
"""Of cosines in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistBowConfig:
    """One bag of songs; their vectors come from skip-gram."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    max_len: int = 250
    """Longest playlist, in songs; of a longer one the last."""
    dim: int = 128
    pooling: Literal["mean", "sif"] = "sif"
    dropout: float = 0.0
    """Of songs, in training only."""


class PlaylistBow(Retriever):
    """z by inner product with the songs' own vectors (length 1), or with other playlists' z."""

    history_inputs = ("items",)

    def __init__(self, config: PlaylistBowConfig) -> None:
        super().__init__()
        self.max_len, self.dim, self.pooling = config.max_len, config.dim, config.pooling
        self.dropout = config.dropout
        self.song = nn.Embedding(config.num_items + 1, config.dim, padding_idx=0)
        self.weight: Tensor
        self.direction: Tensor
        self.register_buffer("weight", torch.ones(config.num_items + 1))
        self.register_buffer("direction", torch.zeros(config.dim))

    def start_songs(self, vectors_VD: Tensor) -> None:
        """The songs' vectors; a zero row is a song of which nothing is known."""
        with torch.no_grad():
            self.song.weight.copy_(vectors_VD)

    @torch.no_grad()
    def fit_weights(self, counts_V: Tensor) -> None:
        """SIF's weight of each song, from how often it was played; of padding 0."""
        share_V = counts_V / counts_V.sum()
        self.weight.copy_(SIF_A / (SIF_A + share_V))
        self.weight[0] = 0

    @torch.no_grad()
    def fit_direction(self, pooled_PD: Tensor) -> None:
        """Store q, the first right singular vector of the training playlists' u, (P, D)."""
        _, vectors_DD = torch.linalg.eigh(pooled_PD.T @ pooled_PD)
        self.direction.copy_(vectors_DD[:, -1])

    def pool(self, items_BL: Tensor) -> Tensor:
        """The u of each playlist, (B, D); zero for an empty one."""
        weight_BL = self.weight[items_BL] * (items_BL > 0)
        total_BD = (self.song(items_BL) * weight_BL[..., None]).sum(1)
        return total_BD / (items_BL > 0).sum(1, keepdim=True).clamp(min=1)

    def finish(self, pooled_BD: Tensor) -> Tensor:
        """From u to z: without the removed direction, of length 1."""
        along_B1 = (pooled_BD * self.direction).sum(-1, keepdim=True)
        return F.normalize(pooled_BD - along_B1 * self.direction, dim=-1)

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """z, (B, D)."""
        return self.finish(self.pool(batch.items))

    def encode_items(self, items: ItemBatch) -> Tensor:
        """The songs' vectors, (N, D), treated as a playlist of one song is."""
        return self.finish(self.song(items.ids))

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Next songs: z of the songs up to each position against the target there, nats."""
        assert batch.targets is not None, "a training batch has targets"
        items_BL = batch.items
        songs_BLD = F.dropout(self.song(items_BL), self.dropout, self.training)
        weight_BL = self.weight[items_BL] * (items_BL > 0)
        count_BL = (items_BL > 0).cumsum(1).clamp(min=1)
        pooled_BLD = (songs_BLD * weight_BL[..., None]).cumsum(1) / count_BL[..., None]
        row_M, place_M = batch.targets.nonzero(as_tuple=True)
        z_MD = self.finish(pooled_BLD[row_M, place_M])
        # cosines lie in -1..1, too close for a softmax
        table_VD = self.finish(self.song.weight) / TEMPERATURE
        return objective(z_MD, batch.targets[row_M, place_M], table_VD)
