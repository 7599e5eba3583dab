"""Tmall: the Alibaba competition of 2014 (brands) and that of IJCAI-15 (repeat buyers).

Both know whole days only. IJCAI-15 as published is user_log_format1.csv and user_info_format1.csv.
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, text, utc

_ACTIONS = {"0": "click", "1": "cart", "2": "buy", "3": "favourite"}
_DAY = pl.col("time_stamp").cast(pl.Int64)

TMALL_2014 = Recipe(
    layouts=(
        Layout(
            folder="alibaba_tmall_2014",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": utc("date_assumed_2013"),
                        "event": text("behavior"),
                    },
                ),
            ),
        ),
    ),
    licence="Not stated; given to contestants: research and education only",
    citation="Alibaba Big Data Competition 2014, Tmall brand recommendation, first season",
    notes=(
        "Items are brands. Times are whole days of an assumed year (2013); the order within a day "
        "is that of the file and may not be the true one.",
    ),
)

TMALL_IJCAI15 = Recipe(
    layouts=(
        Layout(
            folder="ijcai15_tmall_fav_cart_buy",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": utc("date_assumed_2014"),
                        "event": text("behavior"),
                    },
                ),
            ),
        ),
        Layout(
            folder="ijcai-15",
            events=(
                Table(
                    files=("user_log_format1.csv",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": pl.datetime(2014, _DAY // 100, _DAY % 100, time_unit="us"),
                        "event": pl.col("action_type").replace_strict(_ACTIONS),
                    },
                ),
            ),
            items=Table(
                files=("user_log_format1.csv",),
                then=lambda log: log.unique("item_id", keep="first", maintain_order=True),
                columns={
                    "item_id": number("item_id"),
                    "category": text("cat_id"),
                    "seller": text("seller_id"),
                    "brand": text("brand_id"),
                },
            ),
            users=Table(
                files=("user_info_format1.csv",),
                columns={
                    "user_id": number("user_id"),
                    "age_range": text("age_range"),
                    "gender": text("gender"),
                },
            ),
        ),
    ),
    item_columns={"category": "category", "seller": "category", "brand": "category"},
    licence="Tianchi data set 47: research, not commercial",
    citation="IJCAI-15 competition: repeat buyers prediction, Tmall and Tianchi",
    notes=(
        "Times are whole days of 2014. The Parquet layout has no clicks, and its separate test "
        "purchases, which carry no day, are left out.",
    ),
)
