"""Item texts to token ids: one tokenizer per dataset, saved as tokenizer.json.

Trained here: byte-level BPE on the texts of items that training knows. Lower-cased, so a word at
the start of a title is the same word; byte-level, so no text has an unknown token.

Pretrained: any `tokenizer.json`, taken as it is. Texts are encoded without the special tokens that
a model puts around them ([CLS], <s>): the model's own code adds those.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from features.errors import InputError

PADDING, UNKNOWN = "[PAD]", "[UNK]"
MIN_FREQUENCY = 2
"""A pair of tokens must occur as often to be merged: a word of one title is no vocabulary."""


def fit_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """A tokenizer of at most `size` tokens; 0 is padding, 1 is never produced. Deterministic."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[PADDING, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer, length=len(texts))
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, without its own cutting and padding; or InputError."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception, whatever is wrong
        raise InputError(
            f"{path} cannot be read as a tokenizer ({error}): expected the tokenizer.json that is "
            f"published with a model"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def padding_offset(tokenizer: Tokenizer) -> int:
    """What to add to its ids so that 0 can be padding: 0 where its id 0 never comes from a text.

    That is so for a special token, such as the [PAD] of BERT or the <s> of RoBERTa; 1 otherwise.
    """
    token = tokenizer.get_added_tokens_decoder().get(0)
    return 0 if token is not None and token.special else 1


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str | None],
    num_fitted: int,
    max_tokens: int,
    offset: int = 0,
) -> NDArray[np.int32]:
    """Token ids of each text plus `offset`, (N, width), cut on the right and padded with 0.

    The width is the longest of the first `num_fitted` texts, at most `max_tokens`. A missing text
    is all padding. Special tokens are not added.
    """
    encoded = tokenizer.encode_batch_fast([text or "" for text in texts], add_special_tokens=False)
    lengths = np.array([len(one) if text else 0 for one, text in zip(encoded, texts, strict=True)])
    width = min(max(int(lengths[:num_fitted].max(initial=0)), 1), max_tokens)
    tokens = np.zeros((len(texts), width), np.int32)
    for row, length in enumerate(np.minimum(lengths, width)):
        tokens[row, :length] = encoded[row].ids[:length]
        tokens[row, :length] += offset
    return tokens


def alien_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Tokens of more than one byte that occur in no word of `texts`: these it cannot come from."""
    words: set[str] = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    joined = "\n".join(sorted(words))
    tokens = set(tokenizer.get_vocab()) - {PADDING, UNKNOWN}
    return sorted(token for token in tokens if len(token) > 1 and token not in joined)
