"""Rows of items that came after the dataset was built, encoded exactly as it encoded its own.

Nothing is fitted here: values, widths and tokens are those of the dataset; a value that it did not
know becomes 1, unknown. Polars, numpy and tokenizers only, so that serving can use it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.items import bucket, encode_categories, path_prefix
from features.layout import ItemColumn
from features.sentences import encode_sentences, pad_sentences
from features.text import encode_texts


def encode_rows(
    rows: pl.DataFrame,
    columns: Sequence[ItemColumn],
    vocabularies: Mapping[str, pl.Series],
    tokenizer: Tokenizer | None,
) -> dict[str, NDArray]:
    """The encoded attributes of `rows` by column name, (N, ...) as `ItemColumn` says.

    rows: the `declared` columns, of the types they have in catalogue.parquet. vocabularies: known
    values by column name, as `ItemTable` has them. tokenizer: needed where a column is text.
    """
    return {column.name: _encode(rows, column, vocabularies, tokenizer) for column in columns}


def _encode(
    rows: pl.DataFrame,
    column: ItemColumn,
    vocabularies: Mapping[str, pl.Series],
    tokenizer: Tokenizer | None,
) -> NDArray:
    if column.kind == "sentence":
        assert tokenizer is not None, "a dataset with sentences has a tokenizer"
        return pad_sentences(encode_sentences(tokenizer, rows, column), column.width)
    (name,) = declared(column)
    values, count = rows[name], len(rows)
    match column.kind:
        case "text":
            assert tokenizer is not None, "a dataset with texts has a tokenizer"
            texts = values.to_list()
            tokens = encode_texts(tokenizer, texts, count, column.width, column.offset)
            return _widened(tokens, column)
        case "category" if column.name == f"{column.source}.bucket":
            numbers = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
            return bucket(numbers, column.edges)
        case "category" | "categories":
            if column.source:
                values = path_prefix(values, int(column.name.removeprefix(f"{column.source}.")))
            known = vocabularies[column.name]
            codes = encode_categories(values, known, count, column.width)
            return codes if codes.ndim == 1 else _widened(codes, column)
        case "numeric":
            return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        case "timestamp":
            return values.to_physical().fill_null(0).to_numpy()


def declared(column: ItemColumn) -> tuple[str, ...]:
    """The columns of the raw rows that an encoded column is made of."""
    return column.attributes or (column.source or column.name,)


def _widened(codes: NDArray[np.int32], column: ItemColumn) -> NDArray[np.int32]:
    """Padded on the right to the width of the dataset's own rows."""
    return np.pad(codes, ((0, 0), (0, column.width - codes.shape[1])))
