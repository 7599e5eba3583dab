"""Raw rows of new items -> what the parts of a recommender need of them.

The encoding is that of the bundle's dataset (`features.new_items`): its vocabularies and tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.contract import coerce_ranges, refused_numbers, refused_values
from features.errors import InputError
from features.layout import TOKENIZER, DatasetSchema, vocabulary_file
from features.new_items import declared, encode_rows
from features.store import read_table
from features.text import load_tokenizer
from serving.catalogue import Catalogue, RawId
from serving.errors import BundleError, RequestError

ItemRows = pl.DataFrame | Sequence[Mapping[str, Any]]
"""`item_id` and the declared columns; null where something is not known of an item."""


@dataclass(frozen=True, slots=True)
class NewItems:
    """Items to add, in the order of their dense ids to be."""

    raw_ids: list[RawId]
    columns: pl.DataFrame
    """Their rows of catalogue.parquet."""
    attributes: Mapping[str, NDArray]
    """Encoded, by column name, (n, ...)."""

    def __len__(self) -> int:
        return len(self.raw_ids)


@dataclass(frozen=True, slots=True)
class ItemReader:
    """Checks and encodes rows of new items."""

    schema: DatasetSchema
    vocabularies: Mapping[str, pl.Series]
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, directory: Path, schema: DatasetSchema) -> Self:
        """Read vocabularies and tokenizer; raises BundleError where one is missing or damaged."""
        vocabularies: dict[str, pl.Series] = {}
        tokenizer = None
        try:
            for column in schema.item_columns:
                if column.kind in ("category", "categories"):
                    table = read_table(directory / vocabulary_file(column.name))
                    known = table.column("id").to_pylist()
                    vocabularies[column.name] = pl.Series(known, dtype=pl.String)
            if any(column.kind == "text" for column in schema.item_columns):
                tokenizer = load_tokenizer(directory / TOKENIZER)
        except (InputError, KeyError) as error:
            raise BundleError(f"the vocabularies of {directory} cannot be read: {error}") from error
        return cls(schema, vocabularies, tokenizer)

    def read(self, rows: ItemRows, catalogue: Catalogue) -> NewItems:
        """Encode rows of items that the catalogue does not hold. Raises RequestError.

        Columns that the catalogue does not know are left out; of those it knows, only the ones no
        model reads may be missing. Values of another type, out of range or never seen are refused
        or coerced by the rules of the schema.
        """
        given = isinstance(rows, pl.DataFrame)
        frame = rows if given else _as_frame(rows, catalogue, self.schema)
        columns, rules = self.schema.item_columns, self.schema.rules
        self._check_columns(frame, {name for column in columns for name in declared(column)})
        frame = _cast(frame, catalogue.columns.schema, self.schema)
        self._check_ids(frame, catalogue)
        coerced = coerce_ranges(frame, rules)
        attributes = encode_rows(coerced, columns, self.vocabularies, self.tokenizer)
        refused = refused_numbers(frame, rules)
        if refused := refused or refused_values(frame, rules, columns, attributes):
            raise RequestError(f"in the new items, {refused}")
        return NewItems(frame["item_id"].to_list(), frame, attributes)

    def _check_columns(self, frame: pl.DataFrame, needed: set[str]) -> None:
        if missing := sorted(({"item_id"} | needed) - set(frame.columns)):
            raise RequestError(
                f"the rows of new items lack {missing[:5]} ({len(missing)} columns; found "
                f"{frame.columns[:10]}): give null where something is not known of an item"
            )
        if frame.is_empty():
            raise RequestError("there are no rows: expected one for each new item")

    def _check_ids(self, frame: pl.DataFrame, catalogue: Catalogue) -> None:
        ids = frame["item_id"]
        if nulls := ids.null_count():
            raise RequestError(
                f"item_id is null in {nulls} of {len(ids)} rows: every item needs one"
            )
        if repeated := ids.filter(ids.is_duplicated()).unique(maintain_order=True).to_list():
            raise RequestError(
                f"{len(repeated)} new items stand in several rows, the first is {repeated[0]!r}: "
                f"give one row an item"
            )
        if known := [raw for raw in ids.to_list() if raw in catalogue.dense]:
            raise RequestError(
                f"{len(known)} of {len(ids)} items are in the bundle already, the first are "
                f"{known[:5]}: leave them out; changed attributes need a new export"
            )


def _as_frame(
    rows: Sequence[Mapping[str, Any]], catalogue: Catalogue, schema: DatasetSchema
) -> pl.DataFrame:
    names = {name for row in rows for name in row}
    dtypes = {name: kind for name, kind in catalogue.columns.schema.items() if name in names}
    try:
        return pl.DataFrame(
            [
                _series(name, [row.get(name) for row in rows], kind, strict=_strict(schema, name))
                for name, kind in dtypes.items()
            ]
        )
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise RequestError(f"the rows of new items cannot be read: {error}") from error


def _strict(schema: DatasetSchema, name: str) -> bool:
    return name == "item_id" or schema.rule(name).wrong_type == "refuse"


def _cast(
    frame: pl.DataFrame, dtypes: Mapping[str, pl.DataType], schema: DatasetSchema
) -> pl.DataFrame:
    """The columns of `dtypes`, in that order and of those types; null where `frame` lacks one.

    Another type is refused or, where the rules say so, converted, null where it cannot be.
    """
    columns = []
    for name, dtype in dtypes.items():
        if name not in frame.columns:
            columns.append(pl.lit(None, dtype).alias(name))
            continue
        found, strict = frame.schema[name], _strict(schema, name)
        if not strict and not _convertible(found, dtype):
            columns.append(pl.lit(None, dtype).alias(name))
            continue
        if strict and found != dtype and pl.String in (found, dtype) and found != pl.Null:
            raise RequestError(f"{name} is {found} in the new items, {dtype} in this bundle")
        columns.append(pl.col(name).cast(dtype, strict=strict))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise RequestError(f"the new items do not have this bundle's types: {error}") from error


def _convertible(found: pl.DataType, wanted: pl.DataType) -> bool:
    return isinstance(found, pl.List) == isinstance(wanted, pl.List)


def _series(name: str, values: list[Any], wanted: pl.DataType, *, strict: bool) -> pl.Series:
    if not strict and isinstance(wanted, pl.List):
        values = [value if isinstance(value, list | tuple) else None for value in values]
    return pl.Series(name, values, wanted, strict=strict)
