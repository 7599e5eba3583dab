"""Amazon reviews of 2014, 2018 and 2023 (J. McAuley's group), a category at a time: `part`.

2014  reviews_<part>_5.json.gz or reviews_<part>.json.gz, and meta_<part>.json.gz (Python literals)
2018  <part>_5.json.gz or <part>.json.gz, and meta_<part>.json.gz
2023  <part>.jsonl.gz and meta_<part>.jsonl.gz; the item is `parent_asin`

Times of 2014 and 2018 are whole days. The Parquet layouts have no ratings.
"""

import polars as pl

from data.public.formats import json_lines, python_literals
from data.public.recipe import (
    Layout,
    Recipe,
    Table,
    invented,
    milliseconds,
    number,
    seconds,
    text,
)

LICENCE = "No formal licence: published for research, with citation"
REVIEW = pl.lit("review")

_PARQUET = (
    Table(
        files=("interactions.parquet",),
        columns={
            "user_id": number("user_id"),
            "item_id": number("item_id"),
            "timestamp": seconds("timestamp"),
            "event": REVIEW,
        },
    ),
)
_TITLES = Table(
    files=("items.parquet",), columns={"item_id": number("item_id"), "title": text("title")}
)

_REVIEWS = {
    "reviewerID": pl.String,
    "asin": pl.String,
    "overall": pl.Float64,
    "unixReviewTime": pl.Int64,
}
_REVIEW_COLUMNS = {
    "user_id": text("reviewerID"),
    "item_id": text("asin"),
    "timestamp": seconds("unixReviewTime"),
    "event": REVIEW,
    "value": pl.col("overall"),
}
_DOLLARS = pl.col("price").cast(pl.String).str.extract(r"^\$?([0-9]+(?:\.[0-9]+)?)$")
_META = {"asin": pl.String, "title": pl.String, "brand": pl.String}
_META_COLUMNS = {
    "item_id": text("asin"),
    "title": text("title"),
    "brand": text("brand"),
    "price": _DOLLARS.cast(pl.Float64),
}

AMAZON_2014 = Recipe(
    layouts=(
        Layout(
            folder="amazon_grocery_rechorus",
            part="grocery",
            events=_PARQUET,
            items=Table(
                files=("items.parquet",),
                columns={
                    "item_id": number("item_id"),
                    "category": pl.col("i_category").cast(pl.String),
                },
            ),
        ),
        Layout(folder="amazon2014_{part}", events=_PARQUET, items=_TITLES),
        Layout(
            folder="amazon-2014",
            events=(
                Table(
                    files=("reviews_{part}.json.gz", "reviews_{part}_5.json.gz"),
                    read=json_lines(_REVIEWS),
                    columns=_REVIEW_COLUMNS,
                ),
            ),
            items=Table(
                files=("meta_{part}.json.gz",),
                read=python_literals(
                    _META | {"price": pl.Float64, "categories": pl.List(pl.List(pl.String))}
                ),
                columns=_META_COLUMNS | {"categories": pl.col("categories").list.first()},
            ),
        ),
    ),
    item_columns={
        "title": "text",
        "brand": "category",
        "price": "numeric",
        "categories": "path",
        "category": "category",
    },
    title="title",
    licence=LICENCE,
    citation=(
        "R. He and J. McAuley. 2016. Ups and downs: Modeling the visual evolution of fashion "
        "trends with one-class collaborative filtering. WWW; J. McAuley et al. 2015. Image-based "
        "recommendations on styles and substitutes. SIGIR"
    ),
    notes=("Times are whole days: the order within a day is that of the file.",),
)


def _windows(examples: pl.LazyFrame) -> pl.LazyFrame:
    """Examples of a user one after another, a target each -> events: the first example's history,
    then all targets.
    """
    is_first = pl.int_range(pl.len()).over("user_id") == 0
    target = pl.concat_list("target_item_id")
    whole = pl.concat_list("history_item_ids", target)
    return (
        examples.with_columns(item_id=pl.when(is_first).then(whole).otherwise(target))
        .explode("item_id")
        .with_columns(position=pl.int_range(pl.len()).over("user_id"))
    )


AMAZON_2018 = Recipe(
    layouts=(
        Layout(
            folder="amazon2018_scientific",
            part="scientific",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": text("user_id"),
                        "item_id": text("item_id"),
                        "timestamp": invented(pl.col("position")),
                        "event": REVIEW,
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={name: text(name) for name in ("item_id", "title", "category", "brand")},
            ),
        ),
        Layout(folder="amazon2018_{part}", events=_PARQUET, items=_TITLES),
        Layout(
            folder="amazon2018_{part}",
            events=(
                Table(
                    files=("sequences.parquet",),
                    then=_windows,
                    columns={
                        "user_id": text("user_id"),
                        "item_id": number("item_id"),
                        "timestamp": invented(pl.col("position")),
                        "event": REVIEW,
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={
                    "item_id": number("item_id"),
                    **{name: text(name) for name in ("title", "brand", "description")},
                },
            ),
        ),
        Layout(
            folder="amazon-2018",
            events=(
                Table(
                    files=("{part}.json.gz", "{part}_5.json.gz"),
                    read=json_lines(_REVIEWS),
                    columns=_REVIEW_COLUMNS,
                ),
            ),
            items=Table(
                files=("meta_{part}.json.gz",),
                read=json_lines(_META | {"price": pl.String, "category": pl.List(pl.String)}),
                columns=_META_COLUMNS | {"categories": pl.col("category")},
            ),
        ),
    ),
    item_columns={
        "title": "text",
        "category": "category",
        "brand": "category",
        "description": "text",
        "price": "numeric",
        "categories": "path",
    },
    title="title",
    licence=LICENCE,
    citation=(
        "J. Ni, J. Li and J. McAuley. 2019. Justifying recommendations using distantly-labeled "
        "reviews and fine-grained aspects. EMNLP-IJCNLP"
    ),
    notes=(
        "Times are whole days: the order within a day is that of the file.",
        "The Parquet layouts of the parts 'office_windows' and 'industrial_windows' hold the last "
        "two tenths of the log and up to ten events before them; their times are made up as well.",
        "The Parquet layout of part 'scientific' knows only the order in a user: its times are "
        "made up (2000-01-01 and as many seconds as events before), so only leave-one-out and "
        "session splits have a meaning.",
    ),
)

AMAZON_2023 = Recipe(
    layouts=(
        Layout(
            folder="amazon-2023",
            events=(
                Table(
                    files=("{part}.jsonl.gz", "{part}.jsonl"),
                    read=json_lines(
                        {
                            "user_id": pl.String,
                            "parent_asin": pl.String,
                            "rating": pl.Float64,
                            "timestamp": pl.Int64,
                        }
                    ),
                    columns={
                        "user_id": text("user_id"),
                        "item_id": text("parent_asin"),
                        "timestamp": milliseconds("timestamp"),
                        "event": REVIEW,
                        "value": pl.col("rating"),
                    },
                ),
            ),
            items=Table(
                files=("meta_{part}.jsonl.gz", "meta_{part}.jsonl"),
                read=json_lines(
                    {
                        "parent_asin": pl.String,
                        "title": pl.String,
                        "store": pl.String,
                        "price": pl.String,
                        "categories": pl.List(pl.String),
                    }
                ),
                columns={
                    "item_id": text("parent_asin"),
                    "title": text("title"),
                    "brand": text("store"),
                    "price": _DOLLARS.cast(pl.Float64),
                    "categories": pl.col("categories"),
                },
            ),
        ),
    ),
    item_columns={"title": "text", "brand": "category", "price": "numeric", "categories": "path"},
    title="title",
    licence=LICENCE,
    citation=(
        "Y. Hou, J. Li, Z. He, A. Yan, X. Chen and J. McAuley. 2024. Bridging language and items "
        "for retrieval and recommendation. arXiv:2403.03952"
    ),
    notes=("Prices are those of the day of the crawl, later than the reviews.",),
)
