"""What the long-history rankers share: fields to embeddings, top-K search, the head and the loss.

`dare.py` is the paper's model, `dare_baselines.py` what it is compared with; each says how it
scores the events of a history and which it keeps. All is of arXiv 2410.02604 and its code
(thuml/DARE), section numbers are the paper's.

Shape suffixes: B histories, L positions, C candidates, K events kept, F fields, A width of all
fields but time for attention, R the same for representation, D width of a representation with time.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interest_fields import FieldEmbedding, InterestConfig
from recsys.models.interface import HistoryBatch, ItemBatch, Ranker, RankingBatch, Tensors

INIT_STD = 0.01
LONG = 1_000
"""From this `max_len` on, the top K are found block by block."""
BLOCK = 16
"""Events a block."""


class Head(nn.Module):
    """BatchNorm, then a small network to two logits; returns log-odds of the first (Sec. 2.4)."""

    def __init__(self, width: int, hidden: tuple[int, ...], *, batch_statistics: bool) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(width, track_running_stats=not batch_statistics)
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.PReLU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, z_BCD: Tensor) -> Tensor:
        """(B, C, D) to (B, C)."""
        shape = z_BCD.shape[:2]
        logits_N2 = self.layers(self.normalise(z_BCD.flatten(0, 1)))
        return (logits_N2[:, 0] - logits_N2[:, 1]).view(shape)

    def penalty(self) -> Tensor:
        """Sum of squares of all parameters but biases."""
        weights = [p for name, p in self.named_parameters() if "bias" not in name]
        return torch.stack([weight.square().sum() for weight in weights]).sum()


class InterestRanker(Ranker):
    """Embeds, searches, attends, and decides by a head. A subclass scores the events."""

    attention: FieldEmbedding
    representation: FieldEmbedding
    timed: ClassVar[bool] = True
    """Whether recency is a field."""
    history_items: tuple[str, ...] = ("query", "target")
    stages: tuple[str, ...] = ("search", "rank")

    def __init__(self, config: InterestConfig) -> None:
        super().__init__()
        self.config, self.max_len = config, config.max_len
        names = tuple(column.name for column in config.used)
        self.item_inputs = names
        self.history_inputs = ("items", *(f"item.{name}" for name in names))
        self.blocks = config.max_len >= LONG
        self.len_multiple = BLOCK if self.blocks else 1
        self.min_len = config.top_k * self.len_multiple

    def add_heads(self) -> None:
        """Make the heads, once `representation` is there, and initialise everything."""
        config = self.config
        width = self.representation.width + (self.representation.dim if self.timed else 0)
        width *= 3 if config.target_product else 2
        mode = {"batch_statistics": config.batch_statistics}
        self.head = Head(width, config.hidden, **mode)
        self.auxiliary = Head(width, config.hidden[:1], **mode) if config.auxiliary else None
        if config.init == "paper":
            for name, parameter in self.named_parameters():
                if "bias" not in name:
                    nn.init.normal_(parameter, std=INIT_STD)

    def encode_items(self, items: ItemBatch) -> dict[str, Tensor]:
        """The fields for attention, query (..., A), and for representation, target (..., R)."""
        return {"query": self.attention(items), "target": self.representation(items)}

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """Of each event: key (B, L, A), scaled; value (B, L, D); bias (B, L), what recency gives;
        biased_key (B, A + 1, L), keys and bias as one factor of a matrix product.

        Sec. 2.2: items and attributes are scaled by the root of their width, time by that of its
        own, and added. The time part depends on the rank alone, so it is added to all candidates.
        """
        valid_BL = batch.items > 0
        rank_BL = recency_ranks(valid_BL)
        key_BLA = items["query"] / math.sqrt(items["query"].size(-1))
        value_BLD, bias_BL = items["target"], key_BLA.new_zeros(valid_BL.shape)
        if self.timed:
            value_BLD = torch.cat([value_BLD, self.representation.time(rank_BL)], -1)
            now_a = self.attention.now() / math.sqrt(self.attention.dim)
            bias_BL = self.attention.time(rank_BL) @ now_a
        masked_BL = torch.where(valid_BL, bias_BL, lowest(bias_BL))
        return {
            "key": key_BLA,
            "biased_key": torch.cat([key_BLA, masked_BL.unsqueeze(-1)], -1).transpose(1, 2),
            "value": value_BLD,
            "bias": masked_BL,
            "time": bias_BL,
        }

    @abstractmethod
    def relevance(self, tensors: Tensors) -> Tensor:
        """Attention scores (B, C, L), before the bias of recency and padding."""

    def attention_scores(self, tensors: Tensors) -> Tensor:
        """Relevance with the bias of recency and padding, (B, C, L)."""
        return self.relevance(tensors) + tensors["bias"][:, None, :]

    def preference(self, tensors: Tensors, scores_BCL: Tensor) -> Tensor:
        """What the search goes by, (B, C, L): the attention scores themselves."""
        return scores_BCL

    def search(self, tensors: Tensors) -> dict[str, Tensor]:
        """The K events to attend to: kept_scores and kept, (B, C, K)."""
        return self.keep(tensors, self.attention_scores(tensors))

    def keep(self, tensors: Tensors, scores_BCL: Tensor) -> dict[str, Tensor]:
        """Sec. 2.3. The choice itself has no gradient, the scores of what is chosen have."""
        chosen_by = self.preference(tensors, scores_BCL).detach()
        find = top_k_by_blocks if self.blocks else top_k
        kept_BCK = find(chosen_by, self.config.top_k)
        if self.config.attend_padding:
            scores_BCL = self.relevance(tensors) + tensors["time"][:, None, :]
        return {"kept_scores": scores_BCL.gather(2, kept_BCK), "kept": kept_BCK}

    def rank(self, tensors: Tensors) -> dict[str, Tensor]:
        """Scores (B, C, 1): log-odds of the main head (Sec. 2.4)."""
        scores_BCK, kept_BCK = tensors["kept_scores"], tensors["kept"]
        value_BLD = tensors["value"]
        rows_B = torch.arange(value_BLD.size(0), device=kept_BCK.device) * value_BLD.size(1)
        row_BCK = kept_BCK + rows_B[:, None, None]
        value_BCKD = F.embedding(row_BCK, value_BLD.flatten(0, 1))
        weight_BCK = self.weights(scores_BCK)
        pooled_BCD = (weight_BCK.unsqueeze(2) @ value_BCKD).squeeze(2)
        return {"scores": self.head(self.features(tensors, pooled_BCD)).unsqueeze(-1)}

    def weights(self, scores_BCK: Tensor) -> Tensor:
        """Softmax over the kept events; 0 for padding, and for all where the history is empty."""
        real_BCK = scores_BCK > lowest(scores_BCK) / 2
        return scores_BCK.softmax(-1) * real_BCK

    def features(self, tensors: Tensors, pooled_BCD: Tensor) -> Tensor:
        """What the head reads: target, history and their product, side by side."""
        target_BCD = tensors["target"]
        if self.timed:
            now_r = self.representation.now().expand(*target_BCD.shape[:2], -1)
            target_BCD = torch.cat([target_BCD, now_r], -1)
        parts = [target_BCD, pooled_BCD]
        if self.config.target_product:
            parts.append(pooled_BCD * target_BCD)
        return torch.cat(parts, -1)

    def loss(self, batch: RankingBatch) -> Tensor:
        """Log-loss of the main head, that of the auxiliary one, and the penalty (Sec. 3)."""
        tensors = self.tensors(batch.history, batch.candidates)
        scores_BCL = self.attention_scores(tensors)
        tensors |= self.keep(tensors, scores_BCL)
        loss = known_loss(self.rank(tensors)["scores"], batch) + self.config.l2 * self.penalty()
        if self.auxiliary is not None:
            real_BCL = scores_BCL > lowest(scores_BCL) / 2
            pooled_BCD = (scores_BCL.softmax(-1) * real_BCL) @ tensors["value"]
            whole_BC = self.auxiliary(self.features(tensors, pooled_BCD))
            loss = loss + known_loss(whole_BC.unsqueeze(-1), batch)
        return loss

    def penalty(self) -> Tensor:
        """Squared weights of the heads."""
        total = self.head.penalty()
        return total if self.auxiliary is None else total + self.auxiliary.penalty()


def one_product(query_BCA: Tensor, tensors: Tensors) -> Tensor:
    """Inner products and bias together, (B, C, L): the sum costs no second pass over the scores."""
    return F.pad(query_BCA, (0, 1), value=1.0) @ tensors["biased_key"]


def known_loss(scores_BCT: Tensor, batch: RankingBatch) -> Tensor:
    """Mean binary cross-entropy (nats) over the labels that are known."""
    return F.binary_cross_entropy_with_logits(scores_BCT[batch.known], batch.labels[batch.known])


def lowest(x: Tensor) -> float:
    """A score so low that nothing adds up to it, in the precision of `x`, and that is finite."""
    return torch.finfo(x.dtype).min / 2


def recency_ranks(valid_BL: Tensor) -> Tensor:
    """1 for the newest event, counting up to the oldest; padding counts on from there."""
    position_L = torch.arange(valid_BL.size(1), device=valid_BL.device)
    length_B1 = valid_BL.sum(1, keepdim=True)
    return torch.where(valid_BL, length_B1 - position_L, position_L + 1)


def top_k(scores_BCL: Tensor, k: int) -> Tensor:
    """Positions of the k greatest scores, (B, C, k), in no particular order. L >= k."""
    return scores_BCL.topk(k, dim=2, sorted=False).indices


def top_k_by_blocks(scores_BCL: Tensor, k: int) -> Tensor:
    """`top_k` for a long history, L a multiple of BLOCK: exact, and a quarter of the time.

    The k greatest scores lie in the k blocks with the greatest maxima: one outside them would be
    smaller than k others. A block holds every (L / BLOCK)-th event, so that maxima are taken of
    whole rows.
    """
    blocks = scores_BCL.size(2) // BLOCK
    best_BCb = scores_BCL.unflatten(2, (BLOCK, -1)).amax(2)
    block_BCk = best_BCb.topk(k, dim=2, sorted=False).indices
    offset_w = torch.arange(BLOCK, device=scores_BCL.device) * blocks
    event_BCn = (block_BCk.unsqueeze(-1) + offset_w).flatten(2)
    inner_BCk = scores_BCL.gather(2, event_BCn).topk(k, dim=2, sorted=False).indices
    return event_BCn.gather(2, inner_BCk)
