"""REES46: events of a shop of many categories (M. Kechinov, Open CDP).

Monthly files such as 2019-Oct.csv as published, or a Parquet layout. What an item is, is taken
from its first row: prices and names of later rows would know the future.
"""

import polars as pl

from data.public.recipe import (
    Layout,
    Recipe,
    Table,
    first_of_each,
    number,
    text,
    text_time,
    utc,
)

_EVENT = {
    "user_id": number("user_id"),
    "item_id": number("product_id"),
    "event": text("event_type"),
    "session_id": pl.coalesce(text("user_session"), text("user_id")),
    "value": pl.col("price").cast(pl.Float64),
}
_ITEM = {
    "item_id": number("product_id"),
    "path": text("category_code").str.split("."),
    "category": text("category_id"),
    "brand": text("brand"),
    "price": pl.col("price").cast(pl.Float64),
}


def _layout(folder: str, files: tuple[str, ...], timestamp: pl.Expr) -> Layout:
    return Layout(
        folder=folder,
        events=(Table(files=files, columns=_EVENT | {"timestamp": timestamp}),),
        items=Table(files=files, columns=_ITEM, then=first_of_each("product_id")),
    )


REES46 = Recipe(
    layouts=(
        _layout("rees46_oct2019_head", ("interactions.parquet",), utc("event_time")),
        _layout("rees46", ("20*.csv",), text_time("event_time", "%Y-%m-%d %H:%M:%S UTC")),
    ),
    item_columns={
        "path": "path",
        "category": "category",
        "brand": "category",
        "price": "numeric",
    },
    licence="Free to use with attribution to REES46 Marketing Platform and Open CDP",
    citation="M. Kechinov. 2019. eCommerce behavior data from multi category store. Kaggle",
    notes=(
        "`value` is the price of the event's row.",
        "An event without a session belongs to one that is called like its user.",
    ),
)
