"""Diginetica: sessions of a shop (CIKM Cup 2016, track 2).

The raw files as published (train-item-views.csv, train-purchases.csv, product-categories.csv,
products.csv; separated by `;`), or a Parquet layout of the usual preparation for session models,
which knows neither users nor times: there each session is a user of its own.
"""

from datetime import datetime
from pathlib import Path

import polars as pl

from data.public.formats import separated
from data.public.recipe import Layout, Recipe, Table, number, text

FIRST_TEST_SESSION = 1_000_000
"""Test sessions, those of the last week, are numbered from here."""
START, TEST_START = datetime(2016, 1, 1), datetime(2016, 7, 1)
"""Where the made-up times of training and test sessions begin: a session a minute."""


def _invented(start: datetime, session: str) -> pl.Expr:
    minutes = pl.duration(minutes=pl.col(session).cast(pl.Int64), seconds=pl.col("position"))
    return pl.lit(start, pl.Datetime("us")) + minutes


def whole_sessions(prefixes: pl.LazyFrame) -> pl.LazyFrame:
    """Sessions out of prefixes with a target, where each session's longest prefix comes first.

    A row belongs to the session above it if its prefix and target are the prefix of that row.
    """
    items = pl.col("prefix_item_ids").list.concat(pl.col("target_item_id"))
    above = pl.col("prefix_item_ids").shift(1)
    return (
        prefixes.select(items=items, starts=(items.ne_missing(above)).fill_null(value=True))
        .filter("starts")
        .with_row_index("session")
        .select("session", "items")
        .explode("items")
        .with_columns(position=pl.int_range(pl.len()).over("session"))
    )


_SESSION = number("session") + FIRST_TEST_SESSION
_RAW_TIME = pl.col("eventdate").cast(pl.String).str.to_datetime(
    "%Y-%m-%d", time_unit="us"
) + pl.duration(milliseconds=pl.col("timeframe").cast(pl.Int64))


def _raw(file: str, event: str) -> Table:
    session = number("sessionId")
    user = pl.coalesce(pl.col("userId").cast(pl.Int64, strict=False), -session)
    return Table(
        files=(file,),
        read=separated(";"),
        columns={
            "user_id": user,
            "item_id": number("itemId"),
            "timestamp": _RAW_TIME,
            "event": pl.lit(event),
            "session_id": session,
        },
    )


_ITEM = ("categoryId", "pricelog2", "product.name.tokens")
"""Of an item: the first column stands in product-categories.csv, the others in products.csv."""


def _either_file(path: Path) -> pl.LazyFrame:
    """A file of items with the columns of both, those of the other one null."""
    frame = separated(";")(path)
    found = frame.collect_schema().names()
    columns = [pl.col(n) if n in found else pl.lit(None, pl.String).alias(n) for n in _ITEM]
    return frame.select("itemId", *columns)


def _one_row_an_item(rows: pl.LazyFrame) -> pl.LazyFrame:
    values = [pl.col(name).drop_nulls().first() for name in _ITEM]
    return rows.group_by("itemId", maintain_order=True).agg(values)


DIGINETICA = Recipe(
    layouts=(
        Layout(
            folder="diginetica",
            events=(
                Table(
                    files=("sessions_train.parquet",),
                    columns={
                        "user_id": number("session_id"),
                        "item_id": number("item_id"),
                        "timestamp": _invented(START, "session_id"),
                        "event": pl.lit("view"),
                        "session_id": number("session_id"),
                    },
                ),
                Table(
                    files=("test_prefixes.parquet",),
                    then=whole_sessions,
                    columns={
                        "user_id": _SESSION,
                        "item_id": number("items"),
                        "timestamp": _invented(TEST_START, "session"),
                        "event": pl.lit("view"),
                        "session_id": _SESSION,
                    },
                ),
            ),
        ),
        Layout(
            folder="diginetica-raw",
            events=(_raw("train-item-views.csv", "view"), _raw("train-purchases.csv", "buy")),
            items=Table(
                files=("product-categories.csv", "products.csv"),
                read=_either_file,
                then=_one_row_an_item,
                columns={
                    "item_id": number("itemId"),
                    "category": text("categoryId"),
                    "price_step": text("pricelog2"),
                    "name_tokens": text("product.name.tokens").str.split(","),
                },
            ),
        ),
    ),
    item_columns={
        "category": "category",
        "price_step": "category",
        "name_tokens": "categories",
    },
    licence="CIKM Cup 2016: research use",
    citation="CIKM Cup 2016 Track 2: Personalized E-Commerce Search Challenge, Diginetica",
    notes=(
        "In the Parquet layout a session is a user and times are made up from the number of the "
        "session; test sessions (last week) have numbers from 1,000,000 and times from 2016-07-01.",
        "`price_step` is the logarithm of the price to base 2, in whole steps, as published; "
        "`name_tokens` are the anonymous words of the product's name, in order.",
        "In the raw files `timeframe` is milliseconds within the session; users without an id are "
        "their session, with a minus sign.",
    ),
)
