"""RetailRocket: views, carts and purchases of a shop.

events.csv and item_properties_part*.csv as published. Of the dated properties the first of each
item is taken: later ones would know the future.
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, milliseconds, number, text

_NAMES = {"addtocart": "cart", "transaction": "buy"}


def _first_categories(properties: pl.LazyFrame) -> pl.LazyFrame:
    known = properties.filter(pl.col("property") == "categoryid")
    by_time = known.sort(pl.col("timestamp").cast(pl.Int64), maintain_order=True)
    return by_time.unique("itemid", keep="first", maintain_order=True)


RETAILROCKET = Recipe(
    layouts=(
        Layout(
            folder="retailrocket",
            events=(
                Table(
                    files=("events.csv",),
                    columns={
                        "user_id": number("visitorid"),
                        "item_id": number("itemid"),
                        "timestamp": milliseconds("timestamp"),
                        "event": pl.col("event").replace(_NAMES),
                    },
                ),
            ),
            items=Table(
                files=("item_properties_part*.csv",),
                then=_first_categories,
                columns={"item_id": number("itemid"), "category": text("value")},
            ),
        ),
    ),
    item_columns={"category": "category"},
    licence="CC BY-NC-SA 4.0",
    citation="R. Zykov, N. Artem and A. Alexander. 2022. Retailrocket recommender system dataset",
    notes=("Events of one millisecond keep the order of the file, which is not sorted.",),
)
