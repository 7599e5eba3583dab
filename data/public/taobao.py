"""Taobao UserBehavior (Tianchi 649) of 25 November to 3 December 2017.

UserBehavior.csv as published, or Parquet layouts of pieces.
"""

import polars as pl

from data.public.formats import separated
from data.public.recipe import Layout, Recipe, Table, first_of_each, number, seconds, text

HEADER = ("user_id", "item_id", "category_id", "behavior", "timestamp")
_NAMES = {"pv": "click", "fav": "favourite"}
_EVENT = {
    "user_id": number("user_id"),
    "item_id": number("item_id"),
    "timestamp": seconds("timestamp"),
    "event": pl.col("behavior").replace(_NAMES),
}
_ITEM = {"item_id": number("item_id"), "category": text("category_id")}
LICENCE = "Tianchi data set 649: research, not commercial, citation asked for"
CITATION = (
    "H. Zhu et al. 2018. Learning tree-based deep model for recommender systems. KDD; "
    "Tianchi data set 649, User Behavior Data from Taobao"
)

TAOBAO = Recipe(
    layouts=(
        Layout(
            folder="taobao2017_fav_cart_buy",
            events=(Table(files=("interactions.parquet",), columns=_EVENT),),
        ),
        Layout(
            folder="taobao",
            events=(
                Table(files=("UserBehavior.csv",), read=separated(header=HEADER), columns=_EVENT),
            ),
            items=Table(
                files=("UserBehavior.csv",),
                read=separated(header=HEADER),
                then=first_of_each("item_id"),
                columns=_ITEM,
            ),
        ),
    ),
    item_columns={"category": "category"},
    licence=LICENCE,
    citation=CITATION,
    notes=(
        "The Parquet layout has no clicks and no categories; its separate test purchases, which "
        "carry no time, are left out.",
    ),
)

TAOBAO_SLICE = Recipe(
    layouts=(
        Layout(
            folder="taobao2017_two_hour_slice",
            events=(Table(files=("interactions.parquet",), columns=_EVENT),),
            items=Table(
                files=("interactions.parquet",), then=first_of_each("item_id"), columns=_ITEM
            ),
        ),
    ),
    item_columns={"category": "category"},
    licence=LICENCE,
    citation=CITATION,
    notes=("One event in fourteen of two hours: for trying code, not for measuring models.",),
)
