"""trivago (RecSys Challenge 2019): actions in sessions of hotel search.

train.csv and item_metadata.csv as published, or a Parquet layout of a piece. Actions that name no
hotel (searches for a destination, filters) are not events on items and are left out.
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, seconds, text

_ITEM = pl.col("reference").cast(pl.Int64, strict=False)
EVENT = {
    "user_id": text("user_id"),
    "item_id": _ITEM,
    "timestamp": seconds("timestamp"),
    "event": text("action_type"),
    "session_id": text("session_id"),
    "platform": text("platform"),
    "city": text("city"),
    "device": text("device"),
}


def _by_step(actions: pl.LazyFrame) -> pl.LazyFrame:
    """Actions of one second in the order of their steps."""
    return actions.sort("session_id", pl.col("step").cast(pl.Int64), maintain_order=True)


TRIVAGO = Recipe(
    layouts=(
        Layout(
            folder="trivago_sessions_100k",
            events=(Table(files=("interactions.parquet",), then=_by_step, columns=EVENT),),
        ),
        Layout(
            folder="trivago",
            events=(Table(files=("train.csv",), then=_by_step, columns=EVENT),),
            items=Table(
                files=("item_metadata.csv",),
                columns={
                    "item_id": number("item_id"),
                    "properties": pl.col("properties").str.split("|"),
                },
            ),
        ),
    ),
    item_columns={"properties": "categories"},
    licence="Terms of the challenge: research only, no redistribution",
    citation=(
        "P. Knees et al. 2019. RecSys Challenge 2019: session-based hotel recommendations. RecSys"
    ),
    notes=(
        "Two thirds are repeated clicks on images: duplicates = 'consecutive' collapses them. "
        "Lists of shown hotels with prices are in the source and not in events/.",
    ),
)
