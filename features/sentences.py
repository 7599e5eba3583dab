"""Item sentences: what is written of an item, as one row of token ids (Recformer, Sec. 2.2.1).

    title Halden city bicycle   brand Halden   category Bikes City
    ----- -------------------   ----- ------   -------- ----------
    key   value                 key   value    key      value

Attribute after attribute, the tokens of its name and then those of its value, each tokenised by
itself, with no separator; both together are cut at `max_tokens`. A list is its values, joined by
spaces. A missing value leaves the name alone, as in the published code.

Tokens of names are stored negated, so that a model can tell the two apart; 0 is padding.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from features.config import FeatureConfig
from features.encode import SENTENCE
from features.errors import InputError
from features.layout import ItemColumn
from features.text import padding_offset

Ints = NDArray[np.int32]


def sentence_column(
    catalogue: pl.DataFrame,
    num_warm: int,
    columns: Sequence[ItemColumn],
    tokenizers: Sequence[Tokenizer],
    config: FeatureConfig,
) -> tuple[ItemColumn, Ints]:
    """The items' sentences, (N, width). `columns`: those encoded already.

    Raises InputError where there is nothing to make them of.
    """
    declared = {column.source or column.name for column in columns}
    if unknown := [name for name in config.sentence if name not in declared]:
        raise InputError(
            f"features.sentence names {unknown}, the encoded item columns are {sorted(declared)}: "
            "declare them where the data is loaded, or leave them out"
        )
    if not tokenizers or SENTENCE in declared:
        raise InputError(
            f"features.sentence needs a column of kind text, for its tokenizer, and none of the "
            f"name {SENTENCE!r}; the encoded item columns are {sorted(declared)}"
        )
    (tokenizer,) = tokenizers
    column = ItemColumn(
        name=SENTENCE,
        kind=SENTENCE,
        size=tokenizer.get_vocab_size() + padding_offset(tokenizer),
        offset=padding_offset(tokenizer),
        attributes=config.sentence,
        attribute_tokens=config.sentence_tokens,
    )
    sentences = encode_sentences(tokenizer, catalogue, column)
    width = max((len(sentence) for sentence in sentences[:num_warm]), default=0)
    column = replace(column, width=max(width, 1))
    return column, pad_sentences(sentences, column.width)


def encode_sentences(tokenizer: Tokenizer, rows: pl.DataFrame, column: ItemColumn) -> list[Ints]:
    """The sentence of each row, not cut to the column's width. rows: the declared columns."""
    parts = [_attribute(tokenizer, rows[name], column) for name in column.attributes]
    return [np.concatenate(sentence) for sentence in zip(*parts, strict=True)]


def pad_sentences(sentences: Sequence[Ints], width: int) -> Ints:
    """(N, width), cut on the right and padded with 0."""
    padded = np.zeros((len(sentences), width), np.int32)
    for row, sentence in zip(padded, sentences, strict=True):
        row[: len(sentence)] = sentence[:width]
    return padded


def as_texts(values: pl.Series) -> list[str]:
    """Each value as it is read in a sentence; an empty string where it is missing."""
    if isinstance(values.dtype, pl.List):
        values = values.list.join(" ", ignore_nulls=True)
    return values.cast(pl.String).fill_null("").to_list()


def _attribute(tokenizer: Tokenizer, values: pl.Series, column: ItemColumn) -> list[Ints]:
    def ids(encoded: Encoding) -> Ints:
        return np.array(encoded.ids, np.int32) + np.int32(column.offset)

    key = -ids(tokenizer.encode(values.name, add_special_tokens=False))
    encoded = tokenizer.encode_batch_fast(as_texts(values), add_special_tokens=False)
    return [np.concatenate([key, ids(one)])[: column.attribute_tokens] for one in encoded]
