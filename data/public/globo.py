"""Globo.com (G1): clicks on news, with sessions (Moreira et al.).

clicks_hour_*.csv and articles_metadata.csv as published, or a Parquet layout without articles.
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, milliseconds, number

CONTEXT = (
    "click_environment", "click_deviceGroup", "click_os", "click_country", "click_region",
    "click_referrer_type",
)  # fmt: skip


def _columns(item: str, time: str) -> dict[str, pl.Expr]:
    return {
        "user_id": number("user_id"),
        "item_id": number(item),
        "timestamp": milliseconds(time),
        "event": pl.lit("click"),
        "session_id": number("session_id"),
        **{name: pl.col(name).cast(pl.Int32) for name in CONTEXT},
    }


GLOBO = Recipe(
    layouts=(
        Layout(
            folder="globo_news_clicks",
            events=(
                Table(files=("interactions.parquet",), columns=_columns("item_id", "timestamp_ms")),
            ),
        ),
        Layout(
            folder="globo",
            events=(
                Table(
                    files=("clicks/clicks_hour_*.csv", "clicks_hour_*.csv"),
                    columns=_columns("click_article_id", "click_timestamp"),
                ),
            ),
            items=Table(
                files=("articles_metadata.csv",),
                columns={
                    "item_id": number("article_id"),
                    "category": pl.col("category_id").cast(pl.String),
                    "publisher": pl.col("publisher_id").cast(pl.String),
                    "words": pl.col("words_count").cast(pl.Float64),
                    "published": milliseconds("created_at_ts"),
                },
            ),
        ),
    ),
    item_columns={
        "category": "category",
        "publisher": "category",
        "words": "numeric",
        "published": "timestamp",
    },
    licence="Terms of the Kaggle page: citation of the papers is asked for",
    citation=(
        "G. de S. P. Moreira, D. Jannach and A. M. da Cunha. 2019. Contextual hybrid session-based "
        "news recommendation with recurrent neural networks. IEEE Access 7"
    ),
    notes=("A few clicks lie weeks after the others; context columns are the source's codes.",),
)
