"""Recformer's encoder: item sentences to one vector, with a window and a global [CLS].

A BERT-like post-norm transformer whose attention is Longformer's (Beltagy et al. 2020, Sec. 3.1):
a token sees the tokens within a window and [CLS]; [CLS] sees every token, through projections of
its own. Written densely, as a band mask, which costs no more than a sparse kernel up to 1,024
tokens, and exports to ONNX where the published implementation does not.

Two things are computed differently, with equal results:

- [CLS] is one query a sequence, so its key and value projections are moved past the sum over
  tokens: q . (K x_t) = (K'q) . x_t. They then cost D^2 a sequence and not a token. The key's bias
  adds the same to every score of a query, which softmax ignores: there is none.
- Of the last block only [CLS] is needed: the rest of it is not computed (`MaskedTokens` asks for
  all of it).

Attention weights are not dropped out (the published model does, at 0.1).

Shape suffixes: B sequences, T tokens with [CLS] first, D width, H heads, d = D / H.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.layers import Dropout

INIT_STD = 0.02
"""Of tables and of linear maps, as in BERT."""
NUM_KINDS = 3
"""[CLS], key, value. The published code has a fourth, of padding, which nothing reads."""
SPECIAL = 2
"""Rows of the word table after the tokenizer's: [CLS] and [MASK]."""


class EncoderSizes(Protocol):
    """The part of a configuration that the encoder is built from."""

    @property
    def max_len(self) -> int: ...  # noqa: D102
    @property
    def max_tokens(self) -> int: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def num_blocks(self) -> int: ...  # noqa: D102
    @property
    def num_heads(self) -> int: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def window(self) -> int: ...  # noqa: D102
    @property
    def dropout(self) -> float: ...  # noqa: D102
    @property
    def norm_epsilon(self) -> float: ...  # noqa: D102


class Embeddings(nn.Module):
    """Eq. 2: LayerNorm(word + token position + token type + item position), then dropout."""

    def __init__(self, config: EncoderSizes, num_words: int) -> None:
        super().__init__()
        self.num_words = num_words
        """Of the tokenizer; the rows of [CLS] and [MASK] come after them."""
        self.word = nn.Embedding(num_words + SPECIAL, config.dim)
        self.position = nn.Embedding(config.max_tokens, config.dim)
        self.kind = nn.Embedding(NUM_KINDS, config.dim)
        self.item = nn.Embedding(config.max_len + 1, config.dim)
        self.norm = nn.LayerNorm(config.dim, config.norm_epsilon)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens_BT: Tensor, items_BT: Tensor) -> Tensor:
        """See `SentenceEncoder.forward` for the inputs. Returns (B, T, D)."""
        position_T = torch.arange(tokens_BT.size(1), device=tokens_BT.device)
        word_BT = torch.where(position_T == 0, self.num_words, tokens_BT.abs())
        kind_BT = (tokens_BT != 0).long() + (tokens_BT > 0).long()
        x_BTD = self.word(word_BT) + self.kind(kind_BT) + self.item(items_BT)
        return self.dropout(self.norm(x_BTD + self.position(position_T)))


class Block(nn.Module):
    """Attention, then a point-wise network, each as LayerNorm(x + Dropout(f(x)))."""

    def __init__(self, config: EncoderSizes) -> None:
        super().__init__()
        d, epsilon = config.dim, config.norm_epsilon
        self.num_heads = config.num_heads
        self.query_key_value = nn.Linear(d, 3 * d)
        self.global_query, self.global_value = nn.Linear(d, d), nn.Linear(d, d)
        self.global_key = nn.Linear(d, d, bias=False)
        self.attention_out = nn.Linear(d, d)
        self.attention_norm = nn.LayerNorm(d, epsilon)
        self.feed_forward = nn.Sequential(
            nn.Linear(d, config.hidden), nn.GELU(), nn.Linear(config.hidden, d)
        )
        self.feed_forward_norm = nn.LayerNorm(d, epsilon)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, seen_BTT: Tensor, real_BT: Tensor) -> Tensor:
        """seen_BTT: bool, whether the row's token sees the column's. real_BT: bool, no padding."""
        first_B1D = self.attend_globally(x_BTD, real_BT)
        mixed_BTD = torch.cat([first_B1D, self.attend(x_BTD, seen_BTT)[:, 1:]], 1)
        return self.transform(x_BTD, mixed_BTD)

    def first(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        """The output of [CLS] alone, (B, D)."""
        return self.transform(x_BTD[:, :1], self.attend_globally(x_BTD, real_BT)).squeeze(1)

    def transform(self, x_BTD: Tensor, mixed_BTD: Tensor) -> Tensor:
        """What follows the attention."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention_out(mixed_BTD)))
        return self.feed_forward_norm(x_BTD + self.dropout(self.feed_forward(x_BTD)))

    def attend(self, x_BTD: Tensor, seen_BTT: Tensor) -> Tensor:
        """Of every token over those it sees; what comes out for [CLS] is not used."""
        heads = self.query_key_value(x_BTD).unflatten(-1, (3, self.num_heads, -1))
        query_BHTd, key_BHTd, value_BHTd = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHTd = F.scaled_dot_product_attention(
            query_BHTd, key_BHTd, value_BHTd, attn_mask=seen_BTT[:, None]
        )
        return mixed_BHTd.transpose(1, 2).flatten(2)

    def attend_globally(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        """Of [CLS] over all real tokens, (B, 1, D)."""
        query_BHd = self.global_query(x_BTD[:, 0]).unflatten(-1, (self.num_heads, -1))
        key_HdD = self.global_key.weight.unflatten(0, (self.num_heads, -1))
        value_HdD = self.global_value.weight.unflatten(0, (self.num_heads, -1))
        asked_BHD = torch.einsum("bhd,hde->bhe", query_BHd, key_HdD)
        scores_BHT = asked_BHD @ x_BTD.transpose(1, 2) * query_BHd.size(-1) ** -0.5
        scores_BHT = scores_BHT.float().masked_fill(~real_BT[:, None], -torch.inf)
        mixed_BHD = scores_BHT.softmax(-1).to(x_BTD.dtype) @ x_BTD
        mixed_BHd = torch.einsum("bhe,hde->bhd", mixed_BHD, value_HdD)
        return (mixed_BHd.flatten(1) + self.global_value.bias)[:, None]


class SentenceEncoder(nn.Module):
    """Sec. 2.2.2: the encoder that users and items share."""

    def __init__(self, config: EncoderSizes, num_words: int) -> None:
        super().__init__()
        self.max_tokens, self.window = config.max_tokens, config.window
        self.embeddings = Embeddings(config, num_words)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens_BT: Tensor, items_BT: Tensor) -> Tensor:
        """The output of [CLS], (B, D), before it is normalised.

        tokens_BT: (B, T) int64, T >= 1: column 0 is [CLS] whatever it holds; then the sentences,
        newest item first, key tokens negated; 0 where a shorter sequence is padded. items_BT: the
        number of each token's item, 1 the newest; 0 for [CLS] and padding. Tokens after the first
        `max_tokens` are cut.
        """
        x_BTD, seen_BTT, real_BT = self.prepare(tokens_BT, items_BT)
        for block in self.blocks[:-1]:
            x_BTD = block(x_BTD, seen_BTT, real_BT)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        return last.first(x_BTD, real_BT)

    def states(self, tokens_BT: Tensor, items_BT: Tensor) -> Tensor:
        """The output of every token, (B, T, D); row 0 is what `forward` gives."""
        x_BTD, seen_BTT, real_BT = self.prepare(tokens_BT, items_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, seen_BTT, real_BT)
        return x_BTD

    def prepare(self, tokens_BT: Tensor, items_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, T, D), who sees whom (B, T, T), and what is no padding (B, T)."""
        tokens_BT, items_BT = tokens_BT[:, : self.max_tokens], items_BT[:, : self.max_tokens]
        position_T = torch.arange(tokens_BT.size(1), device=tokens_BT.device)
        real_BT = (items_BT > 0) | (position_T == 0)
        near_TT = (position_T[:, None] - position_T).abs() <= self.window
        seen_BTT = real_BT[:, None] & (near_TT | (position_T == 0))
        return self.embeddings(tokens_BT, items_BT), seen_BTT, real_BT
