"""YooChoose (RecSys Challenge 2015): clicks and purchases of sessions; a session is a user.

yoochoose-clicks.dat and yoochoose-buys.dat as published, or a Parquet layout of either.
"""

import polars as pl

from data.public.formats import separated
from data.public.recipe import (
    Layout,
    Recipe,
    Table,
    first_of_each,
    milliseconds,
    number,
    text,
    text_time,
)

LICENCE = "CC BY-NC-ND 4.0 as published with the challenge; research only"
CITATION = "D. Ben-Shimon et al. 2015. RecSys Challenge 2015 and the YOOCHOOSE dataset. RecSys"
CLICKS = ("session", "time", "item", "category")
BUYS = ("session", "time", "item", "price", "quantity")


def _parquet(folder: str, event: str) -> Layout:
    columns = {
        "user_id": number("session_id"),
        "item_id": number("item_id"),
        "timestamp": milliseconds("timestamp_ms"),
        "event": pl.lit(event),
        "session_id": number("session_id"),
    }
    return Layout(folder=folder, events=(Table(files=("interactions.parquet",), columns=columns),))


def _raw(file: str, header: tuple[str, ...], event: str) -> Table:
    columns = {
        "user_id": number("session"),
        "item_id": number("item"),
        "timestamp": text_time("time", "%Y-%m-%dT%H:%M:%S%.fZ"),
        "event": pl.lit(event),
        "session_id": number("session"),
    }
    if "price" in header:
        columns["value"] = pl.col("price").cast(pl.Float64)
    return Table(files=(file,), read=separated(header=header), columns=columns)


_CATEGORIES = Table(
    files=("yoochoose-clicks.dat",),
    read=separated(header=CLICKS),
    then=first_of_each("item"),
    columns={"item_id": number("item"), "category": text("category")},
)

YOOCHOOSE_CLICKS = Recipe(
    layouts=(
        _parquet("yoochoose_clicks_100k", "click"),
        Layout(
            folder="yoochoose",
            events=(_raw("yoochoose-clicks.dat", CLICKS, "click"),),
            items=_CATEGORIES,
        ),
    ),
    item_columns={"category": "category"},
    licence=LICENCE,
    citation=CITATION,
    notes=("The Parquet layout holds sessions of five and more clicks.",),
)

YOOCHOOSE_BUYS = Recipe(
    layouts=(
        _parquet("yoochoose_buys", "buy"),
        Layout(
            folder="yoochoose",
            events=(_raw("yoochoose-buys.dat", BUYS, "buy"),),
        ),
    ),
    licence=LICENCE,
    citation=CITATION,
    notes=("The Parquet layout holds sessions of five and more purchases.",),
)
