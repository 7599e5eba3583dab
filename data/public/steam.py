"""Steam: reviews of video games (J. McAuley's group).

steam_reviews.json.gz and steam_games.json.gz as published (Python literals), or a Parquet layout.
"""

import polars as pl

from data.public.formats import python_literals
from data.public.recipe import Layout, Recipe, Table, number, seconds, text, text_time

STEAM = Recipe(
    layouts=(
        Layout(
            folder="steam_100k",
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
                columns={
                    "item_id": number("item_id"),
                    "title": text("title"),
                    "genres": pl.col("genres"),
                    "tags": pl.col("tags"),
                },
            ),
        ),
        Layout(
            folder="steam",
            events=(
                Table(
                    files=("steam_reviews.json.gz",),
                    read=python_literals(
                        {
                            "username": pl.String,
                            "product_id": pl.String,
                            "date": pl.String,
                            "hours": pl.Float64,
                        }
                    ),
                    columns={
                        "user_id": text("username"),
                        "item_id": text("product_id"),
                        "timestamp": text_time("date", "%Y-%m-%d"),
                        "event": pl.lit("review"),
                        "value": pl.col("hours"),
                    },
                ),
            ),
            items=Table(
                files=("steam_games.json.gz",),
                read=python_literals(
                    {
                        "id": pl.String,
                        "app_name": pl.String,
                        "genres": pl.List(pl.String),
                        "tags": pl.List(pl.String),
                        "developer": pl.String,
                    }
                ),
                columns={
                    "item_id": text("id"),
                    "title": text("app_name"),
                    "genres": pl.col("genres"),
                    "tags": pl.col("tags"),
                    "developer": text("developer"),
                },
            ),
        ),
    ),
    item_columns={
        "title": "text",
        "genres": "categories",
        "tags": "categories",
        "developer": "category",
    },
    title="title",
    licence="No formal licence: published for research, with citation",
    citation=(
        "W.-C. Kang and J. McAuley. 2018. Self-attentive sequential recommendation. ICDM; "
        "M. Wan and J. McAuley. 2018. Item recommendation on monotonic behavior chains. RecSys"
    ),
    notes=("Times are whole days. In the published files `value` is the hours played.",),
)
