"""The item table: declared columns to arrays, row i for dense id i, row 0 padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.config import FeatureConfig
from features.errors import InputError
from features.layout import ItemColumn, Kind
from features.schema import Items
from features.text import encode_texts, fit_tokenizer
from features.vocabulary import FIRST_VALUE, encode_values, fit_values

ITEM = Items.item_id.name


@dataclass(frozen=True, slots=True)
class ItemSource:
    """What an events/ directory says about items."""

    items: pl.DataFrame
    """`item_id` and the declared columns."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Columns to encode."""
    title_column: str = ""


@dataclass(frozen=True, slots=True)
class ItemTable:
    """N items encoded. Vocabularies and tokenizer know the warm items only."""

    columns: tuple[ItemColumn, ...]
    arrays: Mapping[str, NDArray]
    """By column name, (N + 1, ...) as `ItemColumn` says."""
    vocabularies: Mapping[str, pl.Series]
    """Known values of the category columns: element i has code i + 2."""
    tokenizers: Sequence[Tokenizer]
    """The one tokenizer of all text columns; empty where there are none."""


def known_items(raw_ids: pa.Array, items: pl.DataFrame) -> pl.DataFrame:
    """The rows of `items` for `raw_ids`, in that order; an id without a row gets nulls."""
    ids = pl.DataFrame({ITEM: pl.from_arrow(raw_ids)})
    if ids[ITEM].dtype != items[ITEM].dtype:
        raise InputError(
            f"item_id is {ids[ITEM].dtype} in the events and {items[ITEM].dtype} in the items: "
            "load both with one type"
        )
    return ids.join(items, on=ITEM, how="left", validate="1:1", maintain_order="left")


def with_other_items(raw_ids: pa.Array, items: pl.DataFrame) -> pa.Array:
    """`raw_ids`, and after them the items of the table that no event names, in its order."""
    known = pl.Series(pl.from_arrow(raw_ids))
    others = items.filter(~pl.col(ITEM).is_in(known.implode()))[ITEM]
    return pa.concat_arrays([raw_ids, others.to_arrow().cast(raw_ids.type)])


def encode_items(
    catalogue: pl.DataFrame, num_warm: int, kinds: Mapping[str, Kind], config: FeatureConfig
) -> ItemTable:
    """Encode the columns of `kinds`. Row i of `catalogue` is dense id i + 1.

    Everything fitted (values, widths, tokenizer) sees the first `num_warm` rows and no others.
    """
    texts = [name for name, kind in kinds.items() if kind == "text"]
    fitted = training_texts(catalogue, num_warm, texts)
    tokenizers = [fit_tokenizer(fitted, config.tokenizer_size)] if texts else []
    vocabularies = {
        name: fit_values(flat(catalogue[name].head(num_warm)), config.max_values)
        for name, kind in kinds.items()
        if kind in ("category", "categories")
    }
    columns, arrays = [], {}
    for name, kind in kinds.items():
        values, size = catalogue[name], 0
        if kind == "text":
            array = encode_texts(tokenizers[0], values.to_list(), num_warm, config.max_tokens)
            size = tokenizers[0].get_vocab_size()
        elif name in vocabularies:
            known = vocabularies[name]
            array = encode_categories(values, known, num_warm, config.max_categories)
            size = FIRST_VALUE + len(known)
        elif kind == "numeric":
            array = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        else:
            array = values.to_physical().fill_null(0).to_numpy()
        width = array.shape[1] if array.ndim == 2 else 1
        columns.append(ItemColumn(name=name, kind=kind, size=size, width=width))
        arrays[name] = np.concatenate([_padding(array), array])
    return ItemTable(tuple(columns), arrays, vocabularies, tokenizers)


def training_texts(catalogue: pl.DataFrame, num_warm: int, names: Sequence[str]) -> list[str]:
    """All texts of the columns `names` of the warm items."""
    warm = catalogue.head(num_warm)
    return [text for name in names for text in warm[name].drop_nulls().to_list()]


def flat(values: pl.Series) -> pl.Series:
    """The single values of a category column as strings, lists opened; nulls may be among them."""
    opened = values.explode() if isinstance(values.dtype, pl.List) else values
    return opened.cast(pl.String)


def encode_categories(
    values: pl.Series, known: pl.Series, num_fitted: int, max_width: int
) -> NDArray[np.int32]:
    """Codes, (N,), or (N, width) for lists: the first values of each, padded with 0.

    The width is that of the longest of the first `num_fitted` lists, at most `max_width`.
    """
    if not isinstance(values.dtype, pl.List):
        return encode_values(flat(values), known)
    lengths = values.list.len().fill_null(0).to_numpy().astype(np.int64)
    width = min(max(int(lengths[:num_fitted].max(initial=0)), 1), max_width)
    filled = values.filter(pl.Series(lengths > 0))
    codes = encode_values(flat(filled), known)
    rows = np.repeat(np.arange(len(values)), lengths)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = places < width
    encoded = np.zeros((len(values), width), np.int32)
    encoded[rows[kept], places[kept]] = codes[kept]
    return encoded


def _padding(array: NDArray) -> NDArray:
    missing = np.nan if array.dtype == np.float32 else 0
    return np.full((1, *array.shape[1:]), missing, array.dtype)
