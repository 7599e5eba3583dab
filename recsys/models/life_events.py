"""The life-event transformer life2vec (Savcisens et al., Nat. Comput. Sci. 4:43-56, 2024).

A person is a document: CLS, background tokens, SEP, then the tokens of each event and a SEP, oldest
event first. There is no index position: order shows through the clocks (day, age), the cycling
segments and the local windows alone.

Departures from the published code: padding changes nothing (`life_attention`); the masked tokens
are gathered, not padded to a fixed number; the person's vector is always the attention pooling,
never one CLS state; ordinal outcomes by proportional odds (`outcome_heads`); one optimiser for all
weights, so that no part is frozen; the mean row of the token table is taken over all tokens that
can occur, and a row of an unused placeholder does not exist.

Shape suffixes: B persons, L positions, D width, V tokens, M masked positions.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.layers import Dropout
from recsys.models.life_attention import HIDDEN, FavorHeads, MixedAttention, SoftmaxHeads
from recsys.models.outcome_heads import OutcomeHeads, OutcomeShape
from recsys.models.outcome_interface import LifeBatch, OutcomeModel

INIT = 0.01
"""Half width of the uniform start of token table and clocks."""
NUM_SEGMENTS = 4
"""0 padding, 1 background; events take 2, 3, 1 in turn."""
NUM_ORDERS = 3
"""Kept, reversed, shuffled."""
MLM_WEIGHT = 0.8
"""Of the masked tokens in pre-training; the rest is the order's."""
ORDER_SMOOTHING = 0.1
ORDER_WEIGHTS = (1 / 0.9, 1 / 0.1, 1 / 0.1)
"""Of the classes kept, reversed, shuffled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEventsConfig:
    """Sizes of one life-event transformer; the published one: dim 280, feed_forward 2210,
    num_blocks 5, num_heads 10, local_heads 7, features 436, max_len 2560.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_tokens: int
    """V, padding included."""
    num_prefix: int
    """Positions before the first SEP: CLS and the background. They have no time."""
    outcomes: tuple[OutcomeShape, ...] = (OutcomeShape("binary"),)
    vocabulary: str = ""
    """Hash of the meaning of the tokens, so that weights of another vocabulary are refused."""
    max_len: int = 512
    """Longest document, in tokens."""
    dim: int = 64
    feed_forward: int = 256
    """Width inside a block."""
    num_blocks: int = 2
    num_heads: int = 4
    local_heads: int = 2
    window: int = 38
    """Positions in a block of local attention."""
    global_attention: Literal["favor", "softmax"] = "favor"
    features: int = 128
    """Random features of a global head."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim={self.dim} is not a multiple of num_heads={self.num_heads}")
        if not 0 <= self.local_heads <= self.num_heads:
            raise ValueError(
                f"local_heads={self.local_heads} is not in 0..num_heads={self.num_heads}"
            )
        if not self.outcomes:
            raise ValueError("outcomes is empty: a model predicts at least one")


class TokenTable(nn.Module):
    """Token vectors, centred before every use: the mean of the real rows is subtracted."""

    def __init__(self, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_tokens, dim).uniform_(-INIT, INIT))

    def centred(self) -> Tensor:
        """(V, D); row 0 is zero."""
        real_VD = self.weight[1:] - self.weight[1:].mean(0)
        return F.pad(real_VD, (0, 0, 1, 0))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """(B, L, D)."""
        return F.embedding(tokens_BL, self.centred())


class Clock(nn.Module):
    """Time2Vec (Kazemi et al., arXiv:1907.05321): D - 1 waves of one frequency each, and a line."""

    def __init__(self, dim: int, wave: Literal["sin", "cos"]) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.empty(dim).uniform_(-INIT, INIT))
        self.phase = nn.Parameter(torch.empty(dim).uniform_(-INIT, INIT))
        self.shift = math.pi / 2 if wave == "cos" else 0.0

    def forward(self, time_BL: Tensor) -> Tensor:
        """time_BL: float32, in the data's own unit, unscaled. Returns (B, L, D)."""
        angle_BLD = time_BL[..., None] * self.frequency + self.phase
        return torch.cat([(angle_BLD[..., :-1] + self.shift).sin(), angle_BLD[..., -1:]], dim=-1)


class LifeEmbedding(nn.Module):
    """Token + a1 age + a2 day + a3 segment; the three scalars start at 0."""

    def __init__(self, config: LifeEventsConfig) -> None:
        super().__init__()
        self.num_prefix = config.num_prefix
        self.token = TokenTable(config.num_tokens, config.dim)
        self.age, self.day = Clock(config.dim, "cos"), Clock(config.dim, "sin")
        self.segment = nn.Embedding(NUM_SEGMENTS, config.dim)
        self.scale_age, self.scale_day, self.scale_segment = (
            nn.Parameter(torch.zeros(())) for _ in range(3)
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, batch: LifeBatch) -> Tensor:
        """(B, L, D)."""
        position_L = torch.arange(batch.tokens.size(1), device=batch.tokens.device)
        timed_L1 = (position_L >= self.num_prefix).float()[:, None]
        time_BLD = self.scale_age * self.age(batch.ages) + self.scale_day * self.day(batch.days)
        segment_BLD = self.scale_segment * self.segment(batch.segments)
        return self.dropout(self.token(batch.tokens) + time_BLD * timed_L1 + segment_BLD)


class ReZeroBlock(nn.Module):
    """x + a Attention(x), then x + b FeedForward(x); no norm, a and b start at 0."""

    def __init__(self, config: LifeEventsConfig) -> None:
        super().__init__()
        head_dim = config.dim // config.num_heads
        heads = FavorHeads if config.global_attention == "favor" else SoftmaxHeads
        self.attention = MixedAttention(
            config.dim,
            config.num_heads,
            config.local_heads,
            config.window,
            heads(head_dim, config.features),
        )
        self.widen = nn.Linear(config.dim, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.dim)
        self.scale_attention, self.scale_feed_forward = (
            nn.Parameter(torch.zeros(())) for _ in range(2)
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """real_BL: float32, 1 where there is a token."""
        x_BLD = x_BLD * real_BL[..., None]
        attended_BLD = self.dropout(self.attention(x_BLD, real_BL))
        x_BLD = x_BLD + self.scale_attention * attended_BLD
        fed_BLD = self.narrow(F.silu(self.dropout(self.widen(x_BLD))))
        return x_BLD + self.scale_feed_forward * fed_BLD


class ScaleNorm(nn.Module):
    """g x / |x| (Nguyen & Salazar, IWSLT 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(math.sqrt(dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return self.gain * x / x.norm(dim=-1, keepdim=True).clamp(min=1e-5)


class AttentionPooling(nn.Module):
    """One vector a person: a weighted mean of transformed states, weights by sigsoftmax."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.transform, self.norm = nn.Linear(dim, dim), ScaleNorm(dim)
        self.dropout = nn.AlphaDropout(dropout)
        self.project, self.context = nn.Linear(dim, dim // 2), nn.Linear(dim // 2, 1, bias=False)

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """(B, D). sigsoftmax: Kanai et al., NeurIPS 2018."""
        u_BLD = self.dropout(self.norm(F.silu(self.transform(x_BLD))))
        score_BL = self.context(self.project(u_BLD).tanh()).squeeze(-1)
        score_BL = score_BL + F.logsigmoid(score_BL) + (1 - real_BL) * HIDDEN
        return (score_BL.softmax(1)[:, None, :] @ u_BLD).squeeze(1)


class LifeEvents(OutcomeModel):
    """The encoder with its pre-training heads, and a pooled vector with its outcome heads."""

    life_inputs: ClassVar[tuple[str, ...]] = ("tokens", "days", "ages", "segments")

    def __init__(self, config: LifeEventsConfig) -> None:
        super().__init__()
        d = config.dim
        self.max_len, self.dim = config.max_len, d
        self.embedding = LifeEmbedding(config)
        self.blocks = nn.ModuleList(ReZeroBlock(config) for _ in range(config.num_blocks))
        self.pooling = AttentionPooling(d, config.dropout)
        self.outcomes = OutcomeHeads(d, config.outcomes)
        self.masked = nn.Linear(d, d)
        self.masked_gain = nn.Parameter(torch.tensor(math.sqrt(d)))
        self.order = nn.Sequential(
            nn.Linear(d, d), nn.SiLU(), ScaleNorm(d), Dropout(config.dropout)
        )
        self.order_logits = nn.Linear(d, NUM_ORDERS)
        self.dropout = Dropout(config.dropout)

    def encode(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """States (B, L, D) from embedded positions."""
        for block in self.blocks:
            x_BLD = block(x_BLD, real_BL)
        return x_BLD

    def person(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """The person's vector (B, D) from embedded positions: what attribution differentiates."""
        return self.pooling(self.encode(x_BLD, real_BL), real_BL)

    def predict(self, batch: LifeBatch) -> tuple[Tensor, Tensor]:
        """Probabilities (B, P) before calibration, and person vectors (B, D)."""
        person_BD = self.person(self.embedding(batch), batch.real)
        return self.outcomes(person_BD), person_BD

    def loss(self, batch: LifeBatch) -> Tensor:
        """Mean loss of the outcomes, nats."""
        assert batch.labels is not None, "a training batch has labels"
        person_BD = self.person(self.embedding(batch), batch.real)
        return self.outcomes.loss(person_BD, batch.labels)

    def pretraining_loss(self, batch: LifeBatch) -> Tensor:
        """.8 of the cross-entropy of the masked tokens, .2 of that of the order's class, nats."""
        return self._pretraining(batch)[0]

    def masked_tokens(self, batch: LifeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The pre-training loss, how many hidden tokens are guessed, and how many there are."""
        loss, logits_MV, target_M = self._pretraining(batch)
        guessed = (logits_MV.argmax(1) == target_M).sum()
        return loss, guessed, torch.full_like(guessed, len(target_M))

    def _pretraining(self, batch: LifeBatch) -> tuple[Tensor, Tensor, Tensor]:
        assert batch.masked is not None
        assert batch.orders is not None
        states_BLD = self.encode(self.embedding(batch), batch.real)
        row_M = batch.masked.flatten().nonzero().squeeze(1)
        target_M = batch.masked.flatten()[row_M]
        logits_MV = self.token_logits(states_BLD.flatten(0, 1)[row_M])
        masked = F.cross_entropy(logits_MV, target_M, reduction="sum") / max(len(target_M), 1)
        order = F.cross_entropy(
            self.order_logits(self.order(states_BLD[:, 0])),
            batch.orders,
            weight=states_BLD.new_tensor(ORDER_WEIGHTS),
            label_smoothing=ORDER_SMOOTHING,
        )
        return MLM_WEIGHT * masked + (1 - MLM_WEIGHT) * order, logits_MV, target_M

    def token_logits(self, states_MD: Tensor) -> Tensor:
        """(M, V): scaled cosines with the centred token table; padding cannot be predicted."""
        y_MD = self.dropout(F.normalize(self.masked(self.dropout(states_MD)).tanh(), dim=-1))
        table_VD = F.normalize(self.embedding.token.centred(), dim=-1)
        logits_MV = self.masked_gain * y_MD @ table_VD.T
        return torch.cat([torch.full_like(logits_MV[:, :1], HIDDEN), logits_MV[:, 1:]], dim=1)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw new random features in every block."""
        for module in self.modules():
            if isinstance(module, FavorHeads):
                module.redraw(generator)
