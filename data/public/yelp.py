"""Yelp with several behaviours: tips, neutral and negative reviews, as prepared for KHGT."""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, seconds, text

YELP = Recipe(
    layouts=(
        Layout(
            folder="yelp_multibehaviour_no_like",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": seconds("timestamp"),
                        "event": text("behavior"),
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={"item_id": number("item_id"), "categories": pl.col("categories")},
            ),
        ),
    ),
    item_columns={"categories": "categories"},
    licence="Yelp Open Dataset terms: academic and non-commercial use, no redistribution",
    citation=(
        "L. Xia et al. 2021. Knowledge-enhanced hierarchical graph transformer network for "
        "multi-behavior recommendation. AAAI; Yelp Open Dataset"
    ),
    notes=("The behaviour `like` (4 and 5 stars), the target of the papers, is missing.",),
)
