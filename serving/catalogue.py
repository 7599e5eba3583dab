"""Raw item ids and what there is to show of an item."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import polars as pl

from features.layout import CATALOGUE, DatasetSchema, vocabulary_file
from features.store import read_table
from serving.errors import BundleError, RequestError
from serving.topk import Ints

RawId = int | str


class Catalogue:
    """The items of a bundle, by dense id 1..N and by raw id."""

    def __init__(self, schema: DatasetSchema, raw_ids: list[RawId], columns: pl.DataFrame) -> None:
        self.num_items = len(raw_ids)
        self.raw_type = int if schema.raw_item_type == "int" else str
        self.raw_ids: list[RawId] = ["", *raw_ids] if self.raw_type is str else [0, *raw_ids]
        """By dense id; element 0 is padding."""
        self.dense = {raw: item for item, raw in enumerate(raw_ids, 1)}
        self._columns = columns
        self._title = schema.title_column
        self._rows: dict[int, Mapping[str, Any]] = {}

    @classmethod
    def load(cls, directory: Path, schema: DatasetSchema) -> Self:
        """Read vocabulary and catalogue; raises BundleError where their sizes differ."""
        raw_ids = read_table(directory / vocabulary_file("item")).column("id").to_pylist()
        columns = pl.read_parquet(directory / CATALOGUE)
        if not len(raw_ids) == len(columns) == schema.num_items:
            raise BundleError(
                f"{directory} has {len(raw_ids)} raw ids and {len(columns)} catalogue rows "
                f"for {schema.num_items} items"
            )
        return cls(schema, raw_ids, columns)

    def row(self, item: int) -> Mapping[str, Any]:
        """The declared columns of a dense id. Rows are kept once asked for: few items are."""
        row = self._rows.get(item)
        if row is None:
            row = MappingProxyType(self._columns.row(item - 1, named=True))
            self._rows[item] = row
        return row

    def title(self, item: int) -> str | None:
        """What to call a dense id, where the source has titles."""
        title = self.row(item).get(self._title) if self._title else None
        return None if title is None else str(title)

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

    def check_types(self, raw_ids: list[Any]) -> None:
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
