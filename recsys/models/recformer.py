"""Recformer: text is all you need (Li et al., KDD 2023, arXiv:2305.13731).

An item is a sentence of its attributes, a history the sentences of its items, newest first, behind
one [CLS]; one encoder (`sentence_encoder`) turns either into a vector, and a history scores an item
by the cosine of the two. There are no item ids, so an item without a single event can be found.

Departures from the paper: a history whose last item alone is too long is cut inside it, as the
published code does; attention weights are not dropped out; word, key and value embeddings start
from N(0, 0.02) where no published weights are given. Whether and when items are encoded anew is
the business of `recsys.training.two_stage`.

Two sets of weights. Algorithm 1 freezes the items' vectors and goes on training the encoder, so
the weights that produced the vectors are kept apart, as `item_encoder`: a new item is encoded by
them and lands among the others, a history by `encoder`.

Shape suffixes: B histories, L events, T tokens, N items, S tokens of a sentence, D width,
M positions with a target, V item ids (0 is padding).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models.bucketed import encode_sentences, encode_tokens
from recsys.models.contrast import Contrast, MaskedTokens, contrast, name_masked
from recsys.models.interface import Column, HistoryBatch, ItemBatch, Retriever
from recsys.models.losses import Objective
from recsys.models.sentence_encoder import Block, SentenceEncoder

SENTENCE = "sentence"
"""The item column that holds what is written of an item: see `features.sentences`."""
VECTOR = "vector"
"""Attribute of a catalogue that is encoded already: the items' vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecformerConfig:
    """Sizes. The defaults are *mini*; base is dim 768, hidden 3072, 12 blocks of 12 heads."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    columns: tuple[Column, ...]
    max_len: int = 50
    """Most recent items of a history that are read."""
    max_tokens: int = 256
    """Of a history, [CLS] among them. The paper has 1024; its authors see no loss down to 256."""
    dim: int = 256
    num_blocks: int = 6
    num_heads: int = 4
    hidden: int = 1024
    """Width inside the point-wise network."""
    window: int = 32
    """Tokens that a token sees on each side. As wide as `max_tokens`: full attention."""
    dropout: float = 0.1
    norm_epsilon: float = 1e-5
    """Of LayerNorm: 1e-5 in Longformer, 1e-12 in BERT."""
    temperature: float = 0.05
    """The cosine is divided by it in the loss."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim={self.dim} is not a multiple of num_heads={self.num_heads}")
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens={self.max_tokens} must be at least 2: [CLS] is one")
        if not any(column.kind == SENTENCE for column in self.columns):
            raise ValueError(
                "the dataset has no item sentences: set sentence = ['title', ...] in [features] "
                "and build it again"
            )


class Recformer(Retriever):
    """One encoder for items and histories; their cosine is the score."""

    history_inputs = ("tokens", "token_items")
    item_inputs = (SENTENCE,)

    def __init__(self, config: RecformerConfig) -> None:
        super().__init__()
        self.max_len, self.dim = config.max_len, config.dim
        self.temperature = config.temperature
        sentence = next(column for column in config.columns if column.kind == SENTENCE)
        self.encoder = SentenceEncoder(config, sentence.size)
        self.masked_tokens = MaskedTokens(config.dim, config.norm_epsilon)
        self.item_encoder = copy.deepcopy(self.encoder).requires_grad_(requires_grad=False)

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """(B, D) of length 1. An empty history is [CLS] alone."""
        assert batch.tokens is not None
        assert batch.token_items is not None
        return encode_tokens(self.encoder, batch.tokens, batch.token_items)

    def encode_items(self, items: ItemBatch) -> Tensor:
        """(N, D) of length 1, by the weights that `freeze_items` kept."""
        return encode_sentences(self.item_encoder, items.attributes[SENTENCE])

    def freeze_items(self) -> None:
        """Algorithm 1, line 3: from now on items are encoded by the present weights."""
        self.item_encoder.load_state_dict(self.encoder.state_dict())

    def train_only(self, *, words: bool, masked_tokens: bool) -> None:
        """Which weights are trained: all that the losses asked for use, the word table if wanted.

        What no loss uses must not wait for a gradient where several processes train.
        """
        self.masked_tokens.requires_grad_(masked_tokens)
        self.encoder.embeddings.word.requires_grad_(words)
        last = self.encoder.blocks[-1]
        assert isinstance(last, Block)
        last.query_key_value.requires_grad_(masked_tokens)

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Mean of the objective (nats) over the targets, each after a history of its own.

        Items count by the vectors that the catalogue brings along (`VECTOR`), which are not
        trained: Sec. 2.4. Without, they are encoded by the weights in training, with gradient:
        exact, and slow unless the catalogue is small.
        """
        assert batch.targets is not None, "a training batch has targets"
        assert batch.catalogue is not None, "a model that reads item attributes is given them"
        tokens_MT, items_MT, targets_M = histories_before(batch)
        states_MD = encode_tokens(self.encoder, tokens_MT, items_MT)
        items_VD = batch.catalogue.attributes.get(VECTOR)
        if items_VD is None:
            items_VD = encode_sentences(self.encoder, batch.catalogue.attributes[SENTENCE])
        return objective(states_MD / self.temperature, targets_M, items_VD)

    def pretraining_loss(
        self,
        batch: Contrast,
        gather: Callable[[Tensor], Tensor],
        *,
        masked_weight: float,
        keep_duplicates: bool,
    ) -> Tensor:
        """Sec. 2.3: contrast + weight * masked tokens of either side, in nats.

        gather: a tensor (B, ...) of every process, (C, ...), its own first.
        """
        history_BD = encode_tokens(self.encoder, batch.tokens, batch.items)
        target_BD = encode_sentences(self.encoder, batch.target[:, 1:])
        others_CD = torch.cat([target_BD, gather(target_BD.detach())[len(target_BD) :]])
        ids_C = gather(batch.ids)
        if keep_duplicates:
            ids_C = torch.arange(len(ids_C), device=ids_C.device)
        loss = contrast(history_BD / self.temperature, others_CD, ids_C)
        target_items = (batch.target != 0).long()
        for masked, items in ((batch.history, batch.items), (batch.named, target_items)):
            if masked is not None:
                loss = loss + masked_weight * name_masked(
                    self.encoder, self.masked_tokens, masked, items
                )
        return loss


def histories_before(batch: HistoryBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and their items, (M, T), of the history up to each of M targets, and the targets.

    The newest items come first, so an earlier history is a later part of the row.
    """
    assert batch.tokens is not None
    assert batch.token_items is not None
    assert batch.targets is not None
    row_M, position_M = batch.targets.nonzero(as_tuple=True)
    tokens_MT, items_MT = batch.tokens[row_M], batch.token_items[row_M]
    dropped_M = (items_MT.amax(1) - 1 - position_M).clamp(min=0)
    dropped_MT = (items_MT > 0) & (items_MT <= dropped_M[:, None])
    source_MT = dropped_MT.sum(1)[:, None] + torch.arange(tokens_MT.size(1)).to(tokens_MT)
    inside_MT = source_MT < tokens_MT.size(1)
    source_MT = source_MT.clamp(max=tokens_MT.size(1) - 1)
    moved_MT = items_MT.gather(1, source_MT) * inside_MT
    moved_MT = (moved_MT - dropped_M[:, None]).clamp(min=0)
    tokens_MT = tokens_MT.gather(1, source_MT) * (moved_MT > 0)
    return tokens_MT, moved_MT, batch.targets[row_M, position_M]
