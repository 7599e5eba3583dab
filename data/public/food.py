"""Food.com: ratings of recipes."""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, seconds, text, text_time

FOOD = Recipe(
    layouts=(
        Layout(
            folder="food_com",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": seconds("timestamp"),
                        "event": pl.lit("review"),
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={"item_id": number("item_id"), "title": text("title")},
            ),
        ),
        Layout(
            folder="food-com",
            events=(
                Table(
                    files=("RAW_interactions.csv",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("recipe_id"),
                        "timestamp": text_time("date", "%Y-%m-%d"),
                        "event": pl.lit("review"),
                        "value": pl.col("rating").cast(pl.Float64),
                    },
                ),
            ),
            items=Table(
                files=("RAW_recipes.csv",),
                columns={"item_id": number("id"), "title": text("name")},
            ),
        ),
    ),
    item_columns={"title": "text"},
    title="title",
    licence="Terms of the Kaggle page of the data",
    citation=(
        "B. P. Majumder, S. Li, J. Ni and J. McAuley. 2019. Generating personalized recipes from "
        "historical user preferences. EMNLP-IJCNLP"
    ),
    notes=("Times are whole days.",),
)
