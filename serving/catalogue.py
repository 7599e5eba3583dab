"""Raw item ids and what there is to show of an item."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from features.errors import InputError
from features.layout import CATALOGUE, DatasetSchema, vocabulary_file
from features.store import read_table, write_table
from serving.errors import BundleError, RequestError
from serving.topk import Ints

RawId = int | str

TABLE_FACTOR = 16
"""A table from raw to dense id is used while it has at most this many cells an item."""


class ItemRow(Mapping[str, Any]):
    """What the catalogue declares of an item, read when somebody looks: few answers are looked at
    that closely. It keeps the catalogue it came from in memory.
    """

    __slots__ = ("_frame", "_row", "_values")

    def __init__(self, frame: pl.DataFrame, row: int) -> None:
        self._frame, self._row = frame, row
        self._values: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return self._frame.width

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            self._values = self._frame.row(self._row, named=True)
        return self._values

    def __repr__(self) -> str:
        return repr(self._read())


class Catalogue:
    """The items of a bundle, by dense id 1..N and by raw id."""

    def __init__(self, schema: DatasetSchema, raw_ids: list[RawId], columns: pl.DataFrame) -> None:
        self.num_items = len(raw_ids)
        self.raw_type = int if schema.raw_item_type == "int" else str
        self.raw_ids: list[RawId] = ["", *raw_ids] if self.raw_type is str else [0, *raw_ids]
        self.raw_series = pl.Series("item_id", self.raw_ids)
        """By dense id; element 0 is padding."""
        self.dense = {raw: item for item, raw in enumerate(raw_ids, 1)}
        self.columns = columns
        """Row i belongs to dense id i + 1."""
        self._schema = schema
        self._title = schema.title_column
        known = self._title is not None and self._title in columns.columns
        self._titles = columns[self._title].cast(pl.String) if known else None
        self._table = _lookup_table(raw_ids) if self.raw_type is int else None

    @classmethod
    def load(cls, directory: Path, schema: DatasetSchema) -> Self:
        """Read vocabulary and catalogue; raises BundleError where their sizes differ."""
        try:
            raw_ids = read_table(directory / vocabulary_file("item")).column("id").to_pylist()
            columns = pl.read_parquet(directory / CATALOGUE)
        except (InputError, KeyError, OSError, pl.exceptions.PolarsError) as error:
            raise BundleError(f"the items of {directory} cannot be read: {error}") from error
        if not len(raw_ids) == len(columns) == schema.num_items:
            raise BundleError(
                f"{directory} has {len(raw_ids)} raw ids and {len(columns)} catalogue rows "
                f"for {schema.num_items} items"
            )
        return cls(schema, raw_ids, columns)

    def titles(self) -> list[str | None]:
        """Of every item, by dense id from 1; None for one without."""
        return [None] * self.num_items if self._titles is None else self._titles.to_list()

    def with_items(self, raw_ids: Sequence[RawId], columns: pl.DataFrame) -> "Catalogue":
        """A catalogue that also holds these items, behind its own; this one stays as it is."""
        both = pl.concat([self.columns, columns])
        return Catalogue(self._schema, [*self.raw_ids[1:], *raw_ids], both)

    def write(self, directory: Path) -> None:
        """Write vocabulary and catalogue."""
        write_table(directory / vocabulary_file("item"), {"id": self.columns["item_id"].to_arrow()})
        self.columns.write_parquet(directory / CATALOGUE)

    def title(self, item: int) -> str | None:
        """What to call a dense id; None where the catalogue has no title for it."""
        return None if self._titles is None else self._titles[item - 1]

    def row(self, item: int) -> ItemRow:
        """What is declared of a dense id."""
        return ItemRow(self.columns, item - 1)

    def translate(self, raw_ids: Sequence[Any]) -> Ints:
        """Dense ids, 0 for items the bundle does not know; raises RequestError for wrong types."""
        self.check_types(raw_ids)
        if self._table is not None:
            ids = np.array(raw_ids)
            if ids.dtype == np.int64:  # not where one is wider
                inside = ids.view(np.uint64) < len(self._table)  # also false for negative ids
                if inside.all():
                    return self._table[ids]
                return np.where(inside, self._table[np.where(inside, ids, 0)], 0)
        dense = self.dense
        return np.array([dense.get(raw, 0) for raw in raw_ids], np.int64)

    def find(self, raw: RawId) -> int:
        """The dense id; raises RequestError for an item the bundle does not know."""
        self.check_types([raw])
        if (item := self.dense.get(raw)) is None:
            raise RequestError(f"item {raw!r} is not among the {self.num_items} of this bundle")
        return item

    def find_all(self, raw_ids: Iterable[RawId]) -> Ints:
        """Dense ids of those that are known, in order."""
        if isinstance(raw_ids, str):
            raise RequestError(f"expected a collection of item ids, got the string {raw_ids!r}")
        wanted = list(raw_ids)
        self.check_types(wanted)
        return np.array([item for raw in wanted if (item := self.dense.get(raw))], np.int64)

    def check_types(self, raw_ids: Sequence[Any]) -> None:
        """Raise RequestError unless all ids have the type of this bundle's ids.

        Python takes True and 1.0 for the key 1, so the type must be right and not only equal.
        """
        wrong = {
            kind
            for kind in set(map(type, raw_ids))
            if kind is not self.raw_type
            and not (self.raw_type is int and issubclass(kind, np.integer))
        }
        if wrong:
            names = sorted(kind.__name__ for kind in wrong)
            raise RequestError(
                f"item ids of this bundle are {self.raw_type.__name__}, got {', '.join(names)}"
            )

    def parse(self, text: str) -> RawId:
        """A raw id typed by a person; raises RequestError where it cannot be one."""
        if self.raw_type is str:
            return text
        try:
            return int(text)
        except ValueError:
            raise RequestError(f"item ids of this bundle are int, got {text!r}") from None


def _lookup_table(raw_ids: Sequence[RawId]) -> Ints | None:
    """(greatest raw id + 1,) dense ids, 0 where there is none; None where it would be wasteful.

    An array is several times quicker than a dict for a history of a hundred ids.
    """
    keys = np.array(raw_ids, np.int64)
    if not len(keys) or keys.min() < 0 or keys.max() > TABLE_FACTOR * len(keys) + 1_000:
        return None
    table = np.zeros(int(keys.max()) + 1, np.int64)
    table[keys] = np.arange(1, len(keys) + 1)
    return table
