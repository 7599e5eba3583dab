"""KuaiRand (Gao et al., CIKM 2022): videos shown by the policy and at random, with reactions.

log_*.csv and video_features_basic_*.csv of the -Pure, -1K or -27K release as published.
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, milliseconds, number, text

REACTIONS = {"is_click": "click", "long_view": "long_view", "is_like": "like"}
"""Columns of 0 and 1, and the event that each is; a row with none of them is a view."""


def _reactions(log: pl.LazyFrame) -> pl.LazyFrame:
    """A row for the showing of a video and one for each reaction to it, in this order."""
    flags = [
        pl.when(pl.col(column).cast(pl.Int64) == 1).then(pl.lit(event))
        for column, event in REACTIONS.items()
    ]
    events = pl.concat_list(pl.lit("view"), *flags).list.drop_nulls()
    return log.with_columns(event=events).explode("event")


KUAIRAND = Recipe(
    layouts=(
        Layout(
            folder="kuairand",
            events=(
                Table(
                    files=("data/log_*.csv", "log_*.csv"),
                    then=_reactions,
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("video_id"),
                        "timestamp": milliseconds("time_ms"),
                        "event": pl.col("event"),
                        "value": pl.col("play_time_ms").cast(pl.Float64),
                        "is_rand": pl.col("is_rand").cast(pl.Int32),
                    },
                ),
            ),
            items=Table(
                files=("data/video_features_basic_*.csv", "video_features_basic_*.csv"),
                columns={
                    "item_id": number("video_id"),
                    "author": text("author_id"),
                    "type": text("video_type"),
                    "music": text("music_id"),
                    "tags": pl.col("tag").str.split(","),
                },
            ),
        ),
    ),
    item_columns={
        "author": "category",
        "type": "category",
        "music": "category",
        "tags": "categories",
    },
    licence="CC BY-SA 4.0",
    citation=(
        "C. Gao et al. 2022. KuaiRand: an unbiased sequential recommendation dataset with randomly "
        "exposed videos. CIKM"
    ),
    notes=(
        "Every showing is a `view` and every reaction one more event at its time; `value` is the "
        "play time in milliseconds; `is_rand` marks what was shown at random.",
    ),
)
