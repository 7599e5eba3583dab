"""The item table: declared columns to arrays, row i for dense id i, row 0 padding."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.config import FeatureConfig
from features.errors import InputError
from features.layout import DatasetSchema, ItemColumn, Kind
from features.sentences import sentence_column
from features.text import encode_texts, fit_tokenizer, load_tokenizer, padding_offset
from features.vocabulary import FIRST_VALUE, encode_values, fit_values

ITEM = "item_id"
"""As `features.schema.Items` has it; serving, which has no schemas, imports this file too."""
PATH_SEPARATOR = " > "
"""Between the levels in the name of a path's value."""


Encoding = tuple[ItemColumn, NDArray, pl.Series | None]
"""A column, its array of N rows, and the values it knows, where it is of categories."""


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
    tokenizer_origin: Literal["trained", "pretrained"] = "trained"


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


class Fitted(Protocol):
    """What an older dataset was fitted to, and what is kept of it."""

    @property
    def schema(self) -> DatasetSchema:
        """Its columns: widths and edges."""
        ...

    def known_values(self, name: str) -> pl.Series:
        """The known values of a category column."""
        ...

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer; only asked for where it has a text column."""
        ...


def encode_items(
    catalogue: pl.DataFrame,
    num_warm: int,
    kinds: Mapping[str, Kind],
    config: FeatureConfig,
    older: Fitted | None = None,
) -> ItemTable:
    """Encode the columns of `kinds`. Row i of `catalogue` is dense id i + 1.

    Everything fitted (values, widths, buckets, tokenizer) sees the first `num_warm` rows and no
    others. `older` keeps its widths, edges and tokenizer, and its values keep their codes: values
    that are new follow. Raises InputError for a pretrained tokenizer that cannot be read.
    """
    fit = Fit(num_warm, config, older)
    texts = [name for name, kind in kinds.items() if kind == "text"]
    tokenizers = [_tokenizer(catalogue, texts, fit)] if texts else []
    encoded = []
    for name, kind in kinds.items():
        if kind == "text":
            encoded.append(_text(catalogue[name], tokenizers[0], fit))
        else:
            encoded.extend(_column(catalogue[name], kind, fit))
    origin = "pretrained" if config.tokenizer and texts else "trained"
    columns, arrays, vocabularies = [], {}, {}
    for column, array, known in encoded:
        size = column.size if known is None else FIRST_VALUE + len(known)
        width = array.shape[1] if array.ndim == 2 else 1
        columns.append(replace(column, width=width, size=size))
        arrays[column.name] = np.concatenate([_padding(array), array])
        if known is not None:
            vocabularies[column.name] = known
    if config.sentence:
        sentence, array = sentence_column(catalogue, num_warm, columns, tokenizers, config)
        columns.append(sentence)
        arrays[sentence.name] = np.concatenate([_padding(array), array])
    return ItemTable(tuple(columns), arrays, vocabularies, tokenizers, origin)


@dataclass(frozen=True, slots=True)
class Fit:
    """Of what the columns are fitted."""

    num_warm: int
    config: FeatureConfig
    older: Fitted | None

    def column(self, name: str) -> ItemColumn | None:
        """The column of that name in the older dataset."""
        columns = self.older.schema.item_columns if self.older else ()
        return next((column for column in columns if column.name == name), None)

    def values(self, name: str, warm: pl.Series) -> pl.Series:
        """Known values: the older ones, then the most frequent of `warm` that are new."""
        if self.older is None or self.column(name) is None:
            return fit_values(warm, self.config.max_values)
        known = self.older.known_values(name).cast(pl.String)
        new = warm.filter(~warm.is_in(known.implode()))
        room = max(self.config.max_values - len(known), 0)
        return pl.concat([known, fit_values(new, room).cast(pl.String)])

    def width(self, name: str, limit: int) -> int | None:
        """The older width; None where it is to be fitted, up to `limit`."""
        column = self.column(name)
        return min(column.width, limit) if column else None


def _text(values: pl.Series, tokenizer: Tokenizer, fit: Fit) -> Encoding:
    offset = padding_offset(tokenizer)
    size = tokenizer.get_vocab_size() + offset
    width = fit.width(values.name, fit.config.max_tokens)
    limit = width or fit.config.max_tokens
    fitted = fit.num_warm
    array = encode_texts(tokenizer, values.to_list(), fitted, limit, offset)
    if width:
        array = np.pad(array, ((0, 0), (0, width - array.shape[1])))
    return ItemColumn(name=values.name, kind="text", size=size, offset=offset), array, None


def _column(values: pl.Series, kind: Kind, fit: Fit) -> Iterator[Encoding]:
    """The encoded columns of one declared column that is no text."""
    name, warm = values.name, values.head(fit.num_warm)
    if kind == "path":
        for level, prefixes in path_levels(values, fit.num_warm, fit.config.max_levels):
            derived = ItemColumn(name=f"{name}.{level}", kind="category", source=name)
            known = fit.values(derived.name, prefixes.head(fit.num_warm))
            yield derived, encode_values(prefixes, known), known
        return
    column = ItemColumn(name=name, kind=kind)
    if kind in ("category", "categories"):
        known = fit.values(name, flat(warm))
        limit = fit.config.max_categories
        width = fit.width(name, limit)
        array = encode_categories(values, known, fit.num_warm, width or limit)
        if width and array.ndim == 2:
            array = np.pad(array, ((0, 0), (0, width - array.shape[1])))
        yield column, array, known
    elif kind == "numeric":
        numbers = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        yield column, numbers, None
        if fit.config.buckets:
            before = fit.column(f"{name}.bucket")
            edges = (
                before.edges if before else fit_edges(numbers[: fit.num_warm], fit.config.buckets)
            )
            derived = ItemColumn(name=f"{name}.bucket", kind="category", source=name, edges=edges)
            yield derived, bucket(numbers, edges), bucket_names(edges)
    else:
        yield column, values.to_physical().fill_null(0).to_numpy(), None


def _tokenizer(catalogue: pl.DataFrame, texts: Sequence[str], fit: Fit) -> Tokenizer:
    if fit.older is not None and any(fit.column(name) for name in texts):
        return fit.older.tokenizer()
    if fit.config.tokenizer:
        return load_tokenizer(Path(fit.config.tokenizer))
    return fit_tokenizer(training_texts(catalogue, fit.num_warm, texts), fit.config.tokenizer_size)


def path_levels(
    paths: pl.Series, num_fitted: int, max_levels: int
) -> Iterator[tuple[int, pl.Series]]:
    """Level, from 1, and the part of each path down to it as one text; null where it is shorter.

    The number of levels is that of the longest of the first `num_fitted` paths, at most
    `max_levels` and at least 1.

    >>> [(n, s.to_list()) for n, s in path_levels(pl.Series([["a", "b"], ["c"]]), 2, 9)]
    [(1, ['a', 'c']), (2, ['a > b', None])]
    """
    deepest = paths.head(num_fitted).list.len().max()
    for level in range(1, min(max(int(deepest or 0), 1), max_levels) + 1):  # pyright: ignore[reportArgumentType]
        yield level, path_prefix(paths, level)


def path_prefix(paths: pl.Series, level: int) -> pl.Series:
    """The part of each path down to a level, from 1, as one text; null where it is shorter."""
    prefix = paths.list.head(level).list.join(PATH_SEPARATOR)
    return pl.select(pl.when(paths.list.len() >= level).then(prefix)).to_series()


def fit_edges(numbers: NDArray[np.float32], buckets: int) -> tuple[float, ...]:
    """Inner edges of at most `buckets` buckets of about equal size; each is one of `numbers`."""
    real = numbers[~np.isnan(numbers)]
    if not len(real):
        return ()
    shares = np.arange(1, buckets) / buckets
    edges = np.unique(np.quantile(real, shares, method="higher"))
    return tuple(float(edge) for edge in edges if edge > real.min())


def bucket(numbers: NDArray[np.float32], edges: Sequence[float]) -> NDArray[np.int32]:
    """Codes, (N,): 2 + (edges at or below the number), 0 for nan."""
    codes = FIRST_VALUE + np.searchsorted(np.array(edges, np.float32), numbers, side="right")
    return np.where(np.isnan(numbers), 0, codes).astype(np.int32)


def bucket_names(edges: Sequence[float]) -> pl.Series:
    """What each bucket holds, in the order of the codes.

    >>> bucket_names([1.0, 2.5]).to_list()
    ['below 1', '1 to below 2.5', 'from 2.5']
    """
    if not edges:
        return pl.Series(["any number"])
    inner = [f"{a:g} to below {b:g}" for a, b in itertools.pairwise(edges)]
    return pl.Series([f"below {edges[0]:g}", *inner, f"from {edges[-1]:g}"])


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
