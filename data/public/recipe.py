"""How a public data set is read: its files, what becomes of their columns, and its terms.

A recipe is a declaration. The code that follows it is `data.public.reading`; one file beside this
one declares one data set, or one family of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from features.layout import Kind

Read = Callable[[Path], pl.LazyFrame]
"""Opens one file."""
Then = Callable[[pl.LazyFrame], pl.LazyFrame]
"""A step between the file's columns and ours: explode, filter, keep the first row of an item."""

INVENTED_START = pl.datetime(2000, 1, 1, time_unit="us")
"""Where the made-up times of data that knows only an order begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Files of one form and what is made of them, in this order: read, then, columns."""

    files: tuple[str, ...]
    """Globs below the folder; read in the order of the names. `{part}` is the config's `part`."""
    columns: Mapping[str, pl.Expr]
    """Our column -> an expression over theirs."""
    read: Read | None = None
    """None: by suffix, `.parquet`, `.csv` with a header, or JSON Lines."""
    then: Then | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way in which the data lies on a disk."""

    folder: str
    """Below RECSYS_DATA; may hold `{part}`."""
    events: tuple[Table, ...]
    """Put one below the other, then sorted by user and time, stably."""
    items: Table | None = None
    users: Table | None = None
    part: str = ""
    """The only part that lies like this; empty: any."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What can be downloaded without asking."""

    url: str
    md5: str
    """As published beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One data set."""

    layouts: tuple[Layout, ...]
    """The first whose folder is there is read."""
    item_columns: Mapping[str, Kind] = field(default_factory=dict)
    """Kinds of the columns that a table of items may have; those it has not are left out."""
    title: str = ""
    licence: str
    citation: str
    notes: tuple[str, ...] = ()
    """What a user must know: made-up times, missing behaviours."""
    archive: Archive | None = None


def seconds(name: str) -> pl.Expr:
    """A column of seconds since 1970, whole or not, as a time."""
    exact = (pl.col(name).cast(pl.Float64) * 1_000_000).round()
    return pl.from_epoch(exact.cast(pl.Int64), time_unit="us")


def milliseconds(name: str) -> pl.Expr:
    """A column of milliseconds since 1970 as a time."""
    return pl.from_epoch(pl.col(name).cast(pl.Int64) * 1_000, time_unit="us")


def utc(name: str) -> pl.Expr:
    """A typed time, with a zone or without (then UTC), as a time without one."""
    return pl.col(name).cast(pl.Datetime("us"))


def text_time(name: str, form: str) -> pl.Expr:
    """A text as a time, by a format of chrono."""
    return pl.col(name).str.to_datetime(form, time_unit="us")


def number(name: str) -> pl.Expr:
    """An id that is a whole number."""
    return pl.col(name).cast(pl.Int64)


def text(name: str) -> pl.Expr:
    """A text; the empty one is missing."""
    value = pl.col(name).cast(pl.String)
    return pl.when(value != "").then(value)


def invented(order: pl.Expr) -> pl.Expr:
    """A made-up time for data that knows only an order: `order` seconds after 2000-01-01."""
    return INVENTED_START + pl.duration(seconds=order.cast(pl.Int64))


def first_of_each(name: str) -> Then:
    """Keep the first row of every value of `name`: what was known first, so never the future."""
    return lambda frame: frame.unique(name, keep="first", maintain_order=True)
