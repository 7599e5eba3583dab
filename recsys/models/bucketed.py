"""Many sequences of tokens through one encoder: like lengths together, so that little is padding.

Shape suffixes: B sequences, T tokens, N items, S tokens of a sentence, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.models.sentence_encoder import SentenceEncoder

CPU_TOKENS = 2_048
GPU_TOKENS = 65_536
"""Of a forward pass, padding among them: on a CPU what its cache holds, on a GPU what fills it."""


def encode_sentences(encoder: SentenceEncoder, sentences_NS: Tensor) -> Tensor:
    """Vectors (N, D) of items: sentences (N, S) int, key tokens negated, 0 padding."""
    tokens_NT = F.pad(sentences_NS.long(), (1, 0))
    return encode_tokens(encoder, tokens_NT, (tokens_NT != 0).long())


def encode_tokens(encoder: SentenceEncoder, tokens_BT: Tensor, items_BT: Tensor) -> Tensor:
    """Vectors (B, D) of length 1; see `SentenceEncoder.forward` for the inputs.

    Sequences of like length go together, as many as `tokens_at_once`. In a graph that is
    exported, which has no loops over lengths, all go at once.
    """
    if torch.compiler.is_exporting():
        return F.normalize(encoder(tokens_BT, items_BT).float(), dim=-1)
    length_B = sequence_lengths(items_BT).clamp(max=encoder.max_tokens)
    order_B = length_B.argsort(stable=True)
    parts = []
    for rows in buckets(length_B[order_B].tolist(), tokens_at_once(tokens_BT)):
        chosen, longest = order_B[rows], int(length_B[order_B[rows.stop - 1]])
        parts.append(encoder(tokens_BT[chosen, :longest], items_BT[chosen, :longest]).float())
    return F.normalize(torch.cat(parts).index_select(0, order_B.argsort()), dim=-1)


def tokens_at_once(tensor: Tensor) -> int:
    """Tokens of a forward pass on the device of `tensor`, at most."""
    return GPU_TOKENS if tensor.is_cuda else CPU_TOKENS


def sequence_lengths(items_BT: Tensor) -> Tensor:
    """Tokens of each sequence, [CLS] among them, (B,)."""
    return 1 + (items_BT > 0).sum(1)


def buckets(ascending_lengths: list[int], budget: int) -> list[slice]:
    """Runs of rows whose number times the longest is at most `budget` tokens, or that are one row.

    >>> buckets([1, 1, 3, 9], 6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    parts, first = [], 0
    for row, length in enumerate(ascending_lengths):
        if row > first and (row + 1 - first) * length > budget:
            parts.append(slice(first, row))
            first = row
    parts.append(slice(first, len(ascending_lengths)))
    return parts
