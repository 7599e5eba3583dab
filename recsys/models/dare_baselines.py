"""What DARE is compared with, in its own frame: TWIN, SIM, ETA, DIN, and a plain average.

All share `interest.py` (fields, heads, losses, the product with the target), so that a difference
in score is one of search and attention. Shape suffixes: those of `interest.py`; H hidden, W values.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from recsys.models.interest import (
    INIT_STD,
    InterestRanker,
    known_loss,
    one_product,
    recency_ranks,
)
from recsys.models.interest_fields import FieldEmbedding, InterestConfig
from recsys.models.interface import HistoryBatch, ItemBatch, RankingBatch, Tensors

DIN_HIDDEN = 36
DIN_SCALE = 32.0
ETA_BITS = 32


class TWIN(InterestRanker):
    """Two stages that score alike, over one table set (Chang et al., KDD 2023, arXiv:2302.02352).

    As in the code of DARE: DARE with both table sets tied; the side features and projections of
    TWIN's paper are left out.
    """

    history_items = ("target",)

    def __init__(self, config: InterestConfig) -> None:
        super().__init__(config)
        self.representation = FieldEmbedding(config, config.dim, timed=self.timed)
        self.add_parts()
        self.add_heads()

    def add_parts(self) -> None:
        """What a subclass has beside tables and heads."""

    @property
    def attention(self) -> FieldEmbedding:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The one table set."""
        return self.representation

    def encode_items(self, items: ItemBatch) -> dict[str, Tensor]:
        """Target (..., R): an item's fields."""
        return {"target": self.representation(items)}

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """Keys are the representations themselves."""
        return super().encode_history(batch, {**items, "query": items["target"]})

    def relevance(self, tensors: Tensors) -> Tensor:
        """Inner products of the shared embeddings."""
        return tensors["target"] @ tensors["key"].transpose(1, 2)

    def attention_scores(self, tensors: Tensors) -> Tensor:
        """One matrix product, as in DARE."""
        return one_product(tensors["target"], tensors)


class SIMHard(TWIN):
    """SIM, hard search (Pi et al., CIKM 2020, arXiv:2006.05639): the events of the candidate's
    category, topped up by the most recent; target attention over them.

    The category is the first embedded column (any value in common), or the item without one.
    """

    history_items = ("target", "category")

    def encode_items(self, items: ItemBatch) -> dict[str, Tensor]:
        """Also category (..., W) int64, 0 padding."""
        columns = self.config.used
        values = items.attributes[columns[0].name].long() if columns else items.ids
        if values.dim() == items.ids.dim():
            values = values.unsqueeze(-1)
        return {**super().encode_items(items), "category": values}

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """Also recency (B, L), 0..1 and the newer the greater, and categories (B, L, W)."""
        valid_BL = batch.items > 0
        recency_BL = 1 / (1 + recency_ranks(valid_BL).float())
        found = super().encode_history(batch, items)
        return {**found, "recency": recency_BL, "categories": items["category"]}

    def preference(self, tensors: Tensors, scores_BCL: Tensor) -> Tensor:
        """2 for the same category, and recency; padding comes last."""
        ours_BC1W1 = tensors["category"].unsqueeze(2).unsqueeze(-1)
        theirs_B1L1W = tensors["categories"].unsqueeze(1).unsqueeze(-2)
        same_BCL = ((ours_BC1W1 == theirs_B1L1W) & (ours_BC1W1 > 0)).any(-1).any(-1)
        padding_BL = (tensors["bias"] != tensors["time"]).float()
        other_BL = tensors["recency"] - 10 * padding_BL
        return 2 * same_BCL.float() + other_BL.unsqueeze(1)


class ETA(TWIN):
    """ETA (Chen et al., 2021, arXiv:2108.04468): events whose SimHash agrees with the target's in
    most bits; target attention over them. The hash planes are drawn once and not learned.
    """

    def add_parts(self) -> None:
        """Random hyperplanes."""
        draw = torch.Generator().manual_seed(0)
        planes = torch.randn(self.representation.width, ETA_BITS, generator=draw)
        self.register_buffer("planes", planes)

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """Also recency (B, L), 0..1 and the newer the greater: it decides between equal codes."""
        recency_BL = 1 / (1 + recency_ranks(batch.items > 0).float())
        return {**super().encode_history(batch, items), "recency": recency_BL}

    def preference(self, tensors: Tensors, scores_BCL: Tensor) -> Tensor:
        """Bits in common, less those that differ, the newer first; padding comes last."""
        planes = self.get_buffer("planes")
        ours_BCb = (tensors["target"] @ planes).sign()
        theirs_BLb = (tensors["key"] @ planes).sign()
        padding_BL = (tensors["bias"] != tensors["time"]).float()
        last_BL = tensors["recency"] - 10 * ETA_BITS * padding_BL
        return ours_BCb @ theirs_BLb.transpose(1, 2) + last_BL.unsqueeze(1)


class DIN(TWIN):
    """DIN (Zhou et al., KDD 2018, arXiv:1706.06978) with the same top-K: a small network scores an
    event from [q, k, q - k, q * k]. As in the code of DARE without time, softmax over the scores.
    """

    timed = False

    def add_parts(self) -> None:
        """The network; its first layer in parts, so that (B, C, L, 4 R) is never formed."""
        width = self.representation.width
        self.of_query, self.of_key = nn.Linear(width, DIN_HIDDEN), nn.Linear(width, DIN_HIDDEN)
        self.of_product = nn.Parameter(torch.randn(DIN_HIDDEN, width) * INIT_STD)
        self.activation, self.out = nn.PReLU(), nn.Linear(DIN_HIDDEN, 1)

    def relevance(self, tensors: Tensors) -> Tensor:
        """W [q, k, q - k, q * k] is linear in q, in k and in their product."""
        query_BCR = tensors["target"]
        key_BLR = tensors["key"] * math.sqrt(query_BCR.size(-1))  # as it was before it was scaled
        shaped_BCHR = query_BCR.unsqueeze(2) * self.of_product
        product_BCHL = shaped_BCHR.flatten(1, 2) @ key_BLR.transpose(1, 2)
        product_BCLH = product_BCHL.unflatten(1, (-1, DIN_HIDDEN)).transpose(2, 3)
        hidden_BCLH = (
            product_BCLH + self.of_query(query_BCR).unsqueeze(2) + self.of_key(key_BLR).unsqueeze(1)
        )
        return self.out(self.activation(hidden_BCLH)).squeeze(-1) / DIN_SCALE

    def attention_scores(self, tensors: Tensors) -> Tensor:
        """The network's scores; a bias for padding alone."""
        return self.relevance(tensors) + tensors["bias"][:, None, :]


class AveragePooling(TWIN):
    """Every event of the history weighs the same, whatever the candidate."""

    stages = ("rank",)

    def __init__(self, config: InterestConfig) -> None:
        super().__init__(replace(config, auxiliary=False))
        self.min_len = self.len_multiple = 1

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """Pooled (B, D): the mean of the history's representations; 0 where it is empty."""
        found = super().encode_history(batch, items)
        real_BL1 = (batch.items > 0).unsqueeze(-1).to(found["value"].dtype)
        total_BD = (found["value"] * real_BL1).sum(1)
        return {"pooled": total_BD / real_BL1.sum(1).clamp(min=1)}

    def rank(self, tensors: Tensors) -> dict[str, Tensor]:
        """Scores (B, C, 1)."""
        num_candidates = tensors["target"].size(1)
        pooled_BCD = tensors["pooled"].unsqueeze(1).expand(-1, num_candidates, -1)
        return {"scores": self.head(self.features(tensors, pooled_BCD)).unsqueeze(-1)}

    def relevance(self, tensors: Tensors) -> Tensor:
        """Nothing is searched for."""
        raise NotImplementedError

    def loss(self, batch: RankingBatch) -> Tensor:
        """One head: the whole history is all there is."""
        tensors = self.tensors(batch.history, batch.candidates)
        return known_loss(self.rank(tensors)["scores"], batch) + self.config.l2 * self.penalty()
