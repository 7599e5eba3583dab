"""Published weights of BERT's shape (BERT, MiniLM, RoBERTa, Longformer) as `SentenceEncoder`'s.

As the authors of Recformer start from Longformer (their `save_longformer_ckpt.py`), and, for
models without global projections, as the authors of Longformer start theirs:

- the word, position and LayerNorm tables and the blocks are copied;
- the first row of the token types becomes all of ours;
- item positions stay as they were drawn;
- without global projections, those for [CLS] start as copies of the ordinary ones: with a window
  as wide as the sequence the encoder then equals the published model.

The rows of [CLS] and [MASK] are put after the tokenizer's, where `Embeddings` has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models.sentence_encoder import NUM_KINDS, SPECIAL, SentenceEncoder

BLOCKS = "encoder.layer."
PREFIXES = ("", "bert.", "roberta.", "longformer.", "model.", "longformer.longformer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """How the published model and the dataset number tokens and positions."""

    cls: int
    """The tokenizer's id of [CLS] or <s>."""
    mask: int
    """Its id of [MASK] or <mask>."""
    offset: int = 0
    """What the dataset adds to the tokenizer's ids."""
    first_position: int = 0
    """Row of the first token in the position table: 0 in BERT, 2 in RoBERTa and Longformer."""


def convert(
    weights: Mapping[str, Tensor], encoder: SentenceEncoder, numbering: Numbering
) -> dict[str, Tensor]:
    """State of `encoder` from published weights; entries that those lack keep their values.

    Raises ValueError, naming the first difference, where the two are not of one shape.
    """
    prefix = next((p for p in PREFIXES if f"{p}embeddings.word_embeddings.weight" in weights), None)
    if prefix is None:
        raise ValueError(
            f"there is no embeddings.word_embeddings.weight among the {len(weights)} tensors "
            f"(first {sorted(weights)[:3]}): expected a model of BERT's shape"
        )
    own = encoder.state_dict()
    state = dict(own)
    published = _Published(weights, prefix)
    state |= _embeddings(published, own, numbering)
    for number in range(len(encoder.blocks)):
        state |= _block(published, number)
    beyond = f"{BLOCKS}{len(encoder.blocks)}.output.dense.weight"
    if f"{prefix}{beyond}" in weights:
        raise ValueError(
            f"the weights have more than num_blocks = {len(encoder.blocks)} blocks: set as many"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} in the weights and {tuple(own[name].shape)} in "
                f"the model: set dim, hidden, num_heads and max_tokens as the weights have them"
            )
    return {name: tensor.to(own[name].dtype).clone() for name, tensor in state.items()}


class _Published:
    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __contains__(self, name: str) -> bool:
        return f"{self._prefix}{name}" in self._weights

    def __getitem__(self, name: str) -> Tensor:
        full = f"{self._prefix}{name}"
        if full not in self._weights:
            raise ValueError(f"{full} is missing among the weights")
        return self._weights[full]


def _embeddings(
    published: _Published, own: Mapping[str, Tensor], numbering: Numbering
) -> dict[str, Tensor]:
    word, special = published["embeddings.word_embeddings.weight"], [numbering.cls, numbering.mask]
    if max(special) >= len(word):
        raise ValueError(f"[CLS] and [MASK] are {special}, the word table has {len(word)} rows")
    wanted = len(own["embeddings.word.weight"]) - numbering.offset - SPECIAL
    if wanted > len(word):
        raise ValueError(f"the tokenizer has {wanted} tokens, the word table {len(word)} rows")
    unused = word.new_zeros((numbering.offset, word.size(1)))
    position = published["embeddings.position_embeddings.weight"][numbering.first_position :]
    return {
        "embeddings.word.weight": torch.cat([unused, word[:wanted], word[special]]),
        "embeddings.position.weight": position[: len(own["embeddings.position.weight"])],
        "embeddings.kind.weight": published["embeddings.token_type_embeddings.weight"][:1].expand(
            NUM_KINDS, -1
        ),
        "embeddings.norm.weight": published["embeddings.LayerNorm.weight"],
        "embeddings.norm.bias": published["embeddings.LayerNorm.bias"],
    }


def _block(published: _Published, number: int) -> dict[str, Tensor]:
    theirs, ours = f"{BLOCKS}{number}.", f"blocks.{number}."
    attention = f"{theirs}attention.self."
    parts = ("query", "key", "value")
    state = {
        f"{ours}query_key_value.{kind}": torch.cat(
            [published[f"{attention}{p}.{kind}"] for p in parts]
        )
        for kind in ("weight", "bias")
    }
    for part in parts:
        apart = f"{attention}{part}_global"
        source = apart if f"{apart}.weight" in published else f"{attention}{part}"
        state[f"{ours}global_{part}.weight"] = published[f"{source}.weight"]
        if part != "key":  # adds the same to all scores of a query
            state[f"{ours}global_{part}.bias"] = published[f"{source}.bias"]
    names = {
        "attention_out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward.0": "intermediate.dense",
        "feed_forward.2": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    }
    for our_name, their_name in names.items():
        for kind in ("weight", "bias"):
            state[f"{ours}{our_name}.{kind}"] = published[f"{theirs}{their_name}.{kind}"]
    return state
