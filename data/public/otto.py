"""OTTO (Kaggle 2022): sessions of clicks, carts and orders; a session is a user.

otto-recsys-train.jsonl as published: one session a line.
"""

import polars as pl

from data.public.formats import json_lines
from data.public.recipe import Layout, Recipe, Table, milliseconds, number

_NAMES = {"clicks": "click", "carts": "cart", "orders": "buy"}
_EVENT = pl.Struct({"aid": pl.Int64, "ts": pl.Int64, "type": pl.String})

OTTO = Recipe(
    layouts=(
        Layout(
            folder="otto",
            events=(
                Table(
                    files=("otto-recsys-train.jsonl", "train.jsonl"),
                    read=json_lines({"session": pl.Int64, "events": pl.List(_EVENT)}),
                    then=lambda sessions: sessions.explode("events").unnest("events"),
                    columns={
                        "user_id": number("session"),
                        "item_id": number("aid"),
                        "timestamp": milliseconds("ts"),
                        "event": pl.col("type").replace(_NAMES),
                        "session_id": number("session"),
                    },
                ),
            ),
        ),
    ),
    licence="CC BY 4.0 (OTTO)",
    citation="OTTO GmbH. 2022. OTTO recommender systems dataset. Kaggle",
)
