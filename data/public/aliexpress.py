"""AliExpress (Li et al., CIKM 2020): products shown by a search, clicks and purchases, by country.

train.csv and test.csv of NL, ES, FR or US as published (Tianchi data set 74690).
"""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, invented, number, text
from features.layout import Kind

CATEGORIES = tuple(f"categorical_{i}" for i in range(1, 17))
NUMBERS = tuple(f"numerical_{i}" for i in range(1, 64))
REACTIONS = {"click": "click", "conversion": "buy"}
"""Columns of 0 and 1, and the event that each is."""
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(CATEGORIES, "category"),
    **dict.fromkeys(NUMBERS, "numeric"),
}


def _numbered(log: pl.LazyFrame) -> pl.LazyFrame:
    return log.with_row_index("row", offset=1)


def _reactions(log: pl.LazyFrame) -> pl.LazyFrame:
    """A row for the showing of a product and one for each reaction to it, in this order."""
    flags = [
        pl.when(pl.col(column).cast(pl.Float64) == 1).then(pl.lit(event))
        for column, event in REACTIONS.items()
    ]
    events = pl.concat_list(pl.lit("view"), *flags).list.drop_nulls()
    return _numbered(log).with_columns(event=events).explode("event")


_FILES = ("{part}/train.csv", "{part}/test.csv")
ALIEXPRESS = Recipe(
    layouts=(
        Layout(
            folder="aliexpress",
            events=(
                Table(
                    files=_FILES,
                    then=_reactions,
                    columns={
                        "user_id": text("search_id"),
                        "item_id": number("row"),
                        "timestamp": invented(pl.col("row")),
                        "event": pl.col("event"),
                    },
                ),
            ),
            items=Table(
                files=_FILES,
                then=_numbered,
                columns={
                    "item_id": number("row"),
                    **{name: text(name) for name in CATEGORIES},
                    **{name: pl.col(name).cast(pl.Float64) for name in NUMBERS},
                },
            ),
        ),
    ),
    item_columns=_KINDS,
    licence="Tianchi data set 74690: research, not commercial",
    citation=(
        "P. Li et al. 2020. Improving multi-scenario learning to rank in e-commerce by exploiting "
        "task relationships in the label space. CIKM"
    ),
    notes=(
        "The rows name neither person nor product: a search stands for the user and a row for the "
        "item, so there are no histories (min_history = 0) and no item comes twice "
        "(hash_rows = 1).",
        "Times are made up, the order of the rows; the test file follows the training file.",
    ),
)
