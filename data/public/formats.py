"""Openers of files in the forms that public data sets come in."""

import ast
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data.public.recipe import Read
from features.errors import InputError

Types = Mapping[str, pl.DataType | type[pl.DataType]]


def by_suffix(path: Path) -> pl.LazyFrame:
    """Parquet, CSV with a header (all columns are texts), or JSON Lines."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return pl.scan_parquet(path)
    if name.endswith(".csv"):
        return pl.scan_csv(path, infer_schema=False)
    return pl.scan_ndjson(path, infer_schema_length=None)


def separated(separator: str = ",", *, header: Sequence[str] | None = None) -> Read:
    """Lines of separated values; all columns are texts.

    header: names of the columns, for files whose first line is data.
    """

    def read(path: Path) -> pl.LazyFrame:
        return pl.scan_csv(
            path,
            separator=separator,
            has_header=header is None,
            schema=dict.fromkeys(header, pl.String) if header is not None else None,
            infer_schema=False,
        )

    return read


def double_colon(header: Types) -> Read:
    """The `::` of GroupLens, in UTF-8 without quotes."""

    def read(path: Path) -> pl.LazyFrame:
        lines = pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String}
        )
        fields = pl.col("line").str.split("::")
        return lines.select(
            fields.list.get(place).cast(kind).alias(name)
            for place, (name, kind) in enumerate(header.items())
        )

    return read


def json_lines(header: Types) -> Read:
    """JSON Lines of which only `header` is wanted; a key that a line has not is null."""
    return lambda path: pl.scan_ndjson(path, schema=dict(header))


def python_literals(header: Types) -> Read:
    """Lines that are Python dictionaries, as the older files of J. McAuley are.

    Read as literals, never executed. Raises InputError with the number of the first bad line.
    """

    def rows(path: Path) -> Iterator[list[Any]]:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = ast.literal_eval(line)
                    yield [row.get(name) for name in header]
                except (ValueError, SyntaxError, AttributeError) as error:
                    raise InputError(
                        f"{path}: line {number} is no Python dictionary ({error}): is it damaged?"
                    ) from error

    def read(path: Path) -> pl.LazyFrame:
        return pl.DataFrame(
            list(rows(path)), schema=dict(header), orient="row", strict=False
        ).lazy()

    return read
