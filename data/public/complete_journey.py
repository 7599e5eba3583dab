"""The Complete Journey 2.0 (84.51 / dunnhumby): purchases of households, with three levels."""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, text, utc

BACKGROUND = (
    "age", "income", "home_ownership", "marital_status", "household_size", "household_comp",
    "kids_count",
)  # fmt: skip

COMPLETE_JOURNEY = Recipe(
    layouts=(
        Layout(
            folder="complete_journey_sample",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("household_id"),
                        "item_id": number("product_id"),
                        "timestamp": utc("transaction_timestamp"),
                        "event": pl.lit("buy"),
                        "session_id": text("basket_id"),
                        "value": pl.col("sales_value"),
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={
                    "item_id": number("product_id"),
                    "department": text("department"),
                    "category": text("product_category"),
                    "type": text("product_type"),
                    "brand": text("brand"),
                    "manufacturer": text("manufacturer_id"),
                },
            ),
            users=Table(
                files=("users.parquet",),
                columns={"user_id": number("household_id")}
                | {name: text(name) for name in BACKGROUND},
            ),
        ),
    ),
    item_columns={
        "department": "category",
        "category": "category",
        "type": "category",
        "brand": "category",
        "manufacturer": "category",
    },
    licence="CC0 of the package that carries it; the terms of 84.51 / dunnhumby may be narrower",
    citation="84.51 / dunnhumby. The Complete Journey 2.0; R package completejourney 1.0.0",
    notes=(
        "A random sample of rows: baskets are torn apart, so the order of a household is sound "
        "and a basket is no session.",
    ),
)
