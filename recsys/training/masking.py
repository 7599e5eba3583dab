"""Masked tokens for pre-training: whole words are hidden, and have to be named (Sec. 2.3.1).

Of the words of a batch a share is drawn; of the drawn tokens 80 % become [MASK], 10 % another
token and 10 % stay. Unlike in the published code, a name and the value after it are different
words, and so are values of different attributes; the share is of real tokens, not of padding.

Shape suffixes: B sequences, T tokens, W words of the tokenizer.
"""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

BYTE_LEVEL_SPACE = "Ġ"
"""How byte-level BPE writes the space that begins a word."""
CONTINUED = "##"
"""How WordPiece writes that a token goes on with a word."""


@dataclass(frozen=True, slots=True)
class Masking:
    """What is known of a tokenizer, and how much to mask."""

    begins_word: Tensor
    """(W,) bool, by token id."""
    share: float

    @classmethod
    def of(cls, tokenizer: Tokenizer, num_words: int, offset: int, share: float) -> "Masking":
        """num_words: token ids of the dataset; offset: what it adds to those of the tokenizer."""
        vocabulary = tokenizer.get_vocab()
        pieces = any(token.startswith(CONTINUED) for token in vocabulary)
        begins_word_W = torch.ones(num_words, dtype=torch.bool)
        for token, number in vocabulary.items():
            begins = (
                not token.startswith(CONTINUED) if pieces else token.startswith(BYTE_LEVEL_SPACE)
            )
            begins_word_W[number + offset] = begins
        return cls(begins_word_W, share)

    def words(self, tokens_BT: Tensor, items_BT: Tensor) -> Tensor:
        """The number of each token's word in its sequence, (B, T)."""
        begins_BT = self.begins_word[tokens_BT.abs()]
        begins_BT[:, 1:] |= (tokens_BT[:, 1:] > 0) != (tokens_BT[:, :-1] > 0)
        begins_BT[:, 1:] |= items_BT[:, 1:] != items_BT[:, :-1]
        return begins_BT.long().cumsum(1)

    def mask(
        self, tokens_BT: Tensor, items_BT: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Tokens as the encoder is shown them, and what to name: the token id, 0 elsewhere.

        At least one token is hidden, if there is one.
        """
        num_words = len(self.begins_word)
        word_BT = self.words(tokens_BT, items_BT)
        drawn_BT = torch.rand(*word_BT.shape, generator=draw)
        chance_BT = torch.rand(word_BT.size(0), int(word_BT.max()) + 1, generator=draw)
        real_BT = items_BT > 0
        hidden_BT = real_BT & (chance_BT.gather(1, word_BT) < self.share)
        if not hidden_BT.any():
            hidden_BT = torch.zeros_like(real_BT)
            hidden_BT.view(-1)[real_BT.flatten().nonzero()[:1, 0]] = True
        other_BT = torch.randint(1, num_words, tokens_BT.shape, generator=draw)
        shown_BT = torch.where(drawn_BT < 0.8, num_words + 1, other_BT)
        shown_BT = torch.where(hidden_BT & (drawn_BT < 0.9), shown_BT, tokens_BT.abs())
        return shown_BT * tokens_BT.sign(), torch.where(hidden_BT, tokens_BT.abs(), 0)
