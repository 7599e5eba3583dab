"""Tenrec (Yuan et al., NeurIPS 2022): what two feeds showed, and four reactions.

QK-video.csv or QB-video.csv as published; `part` is "QK" or "QB".
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, first_of_each, invented, number, text

REACTIONS = ("click", "like", "share", "follow")
"""Columns of 0 and 1, and events of the same name; a row with none of them is a view."""


def _reactions(log: pl.LazyFrame) -> pl.LazyFrame:
    """A row for the showing of a video and one for each reaction to it, in this order."""
    flags = [pl.when(pl.col(name).cast(pl.Int64) == 1).then(pl.lit(name)) for name in REACTIONS]
    events = pl.concat_list(pl.lit("view"), *flags).list.drop_nulls()
    return log.with_row_index("row", offset=1).with_columns(event=events).explode("event")


_FILES = ("{part}-video.csv",)
TENREC = Recipe(
    layouts=(
        Layout(
            folder="tenrec",
            events=(
                Table(
                    files=_FILES,
                    then=_reactions,
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": invented(pl.col("row")),
                        "event": pl.col("event"),
                        "value": pl.col("watching_times").cast(pl.Float64),
                    },
                ),
            ),
            items=Table(
                files=_FILES,
                then=first_of_each("item_id"),
                columns={"item_id": number("item_id"), "category": text("video_category")},
            ),
            users=Table(
                files=_FILES,
                then=first_of_each("user_id"),
                columns={
                    "user_id": number("user_id"),
                    "gender": text("gender"),
                    "age": text("age"),
                },
            ),
        ),
    ),
    item_columns={"category": "category"},
    licence="CC BY-NC 4.0, after accepting the publisher's terms",
    citation=(
        "G. Yuan et al. 2022. Tenrec: a large-scale multipurpose benchmark dataset for recommender "
        "systems. NeurIPS Datasets and Benchmarks"
    ),
    notes=(
        "The log has no times: they are made up, the order of the rows, which is that of each "
        "user's feed. Users cannot be compared in time: split by leave-one-out.",
        "Every showing is a `view` and every reaction one more event at its time; `value` is how "
        "often the video was watched.",
    ),
)
