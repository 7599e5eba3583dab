"""Beibei: carts and purchases without times, as prepared for NMTR, EHCF and GHCF."""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, invented, number, text

_LATER = {"all": 0, "train": 100_000, "test": 1_000_000}
"""Seconds by the column `split`: carts before purchases, the test purchase last."""

BEIBEI = Recipe(
    layouts=(
        Layout(
            folder="beibei_cart_buy",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": invented(
                            pl.col("split").replace_strict(_LATER, return_dtype=pl.Int64)
                            + pl.col("pos")
                        ),
                        "event": text("behavior"),
                    },
                ),
            ),
        ),
    ),
    licence="Not stated: research only",
    citation=(
        "C. Chen et al. 2021. Graph heterogeneous multi-relational recommendation. AAAI; Beibei"
    ),
    notes=(
        "There is no time: carts stand before purchases and the published test purchase last, so "
        "only leave-one-out on `buy` has a meaning. 62 % of the test purchases are also in the "
        "cart.",
    ),
)
