"""trivago with what was shown: the lists of hotels as events, for rankers that learn from them."""

from dataclasses import replace

import polars as pl

from data.public.trivago import EVENT, TRIVAGO

CHANGES = (
    "clickout item",
    "filter selection",
    "change of sort order",
    "search for destination",
    "search for item",
    "search for poi",
)
"""Actions after which another list is on the screen; a click-out ends the look at one."""
SHOWN = "shown"


def with_impressions(actions: pl.LazyFrame) -> pl.LazyFrame:
    """Every hotel of a list as an event `shown`, at the first action on that list.

    The log gives the list with the click-out that ends the look at it. It stood there since the
    last action that changed the list, so what the user did with its hotels in between follows their
    showing. Lists that end without a click-out are not in the log.
    """
    actions = actions.with_columns(step=pl.col("step").cast(pl.Int64)).sort(
        "session_id", "step", maintain_order=True
    )
    changed = pl.col("action_type").is_in(CHANGES).cast(pl.Int64)
    page = changed.shift(1, fill_value=0).cum_sum().over("session_id")
    pages = actions.with_columns(page=page).with_columns(
        first_step=pl.col("step").first().over("session_id", "page"),
        first_time=pl.col("timestamp").first().over("session_id", "page"),
    )
    shown = (
        pages.filter(pl.col("impressions").list.len() > 0)
        .with_columns(
            reference=pl.col("impressions"),
            step=pl.col("first_step"),
            timestamp=pl.col("first_time"),
            action_type=pl.lit(SHOWN),
            order=pl.lit(0),
        )
        .explode("reference")
        .with_columns(reference=pl.col("reference").cast(pl.String))
    )
    acted = pages.with_columns(order=pl.lit(1))
    both = pl.concat([shown, acted.select(shown.collect_schema().names())])
    return both.sort("session_id", "step", "order", maintain_order=True)


def _lists(actions: pl.LazyFrame) -> pl.LazyFrame:
    """Of the CSV as published: `impressions` a|b|c to a list."""
    return with_impressions(actions.with_columns(impressions=pl.col("impressions").str.split("|")))


_THEN = (with_impressions, _lists)
TRIVAGO_SHOWN = replace(
    TRIVAGO,
    layouts=tuple(
        replace(layout, events=(replace(layout.events[0], then=then, columns=EVENT),))
        for layout, then in zip(TRIVAGO.layouts, _THEN, strict=True)
    ),
    notes=(
        "Every hotel of a list that ended in a click-out is an event `shown`, at the first action "
        "on that list; prices and places in the list are left out.",
        "Read histories of the other behaviours only, and set train.ranking.shown = 'shown'.",
    ),
)
