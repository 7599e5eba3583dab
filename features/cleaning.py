"""Rows of a log that no pipeline wants. Plans from LazyFrame to LazyFrame."""

import numpy as np
import polars as pl

from features.config import Duplicates
from features.schema import Events

USER, ITEM = Events.user_id.col, Events.item_id.col
TIME, EVENT = Events.timestamp.col, Events.event.col


def keep_behaviours(events: pl.LazyFrame, kept: tuple[str, ...]) -> pl.LazyFrame:
    """Only the rows whose behaviour is in `kept`; all of them when `kept` is empty."""
    return events.filter(EVENT.is_in(kept)) if kept else events


def keep_some_users(events: pl.DataFrame, count: int) -> pl.DataFrame:
    """The rows of at most `count` users, drawn from those in order of appearance with seed 0."""
    users = events[Events.user_id.name].unique(maintain_order=True)
    if len(users) <= count:
        return events
    drawn = np.random.default_rng(0).permutation(len(users))[:count]
    return events.filter(USER.is_in(users.gather(drawn).implode()))


def may_repeat(events: pl.DataFrame) -> bool:
    """False only if no two rows are equal: counting hashes costs a quarter of comparing rows."""
    return events.hash_rows().n_unique() < len(events)


def drop_duplicates(events: pl.LazyFrame, policy: Duplicates) -> pl.LazyFrame:
    """Drop repeated rows, by a rule of `FeatureConfig.duplicates`. Keeps the first and the order.

    Whether a row stays depends on the rows before it alone, so no rule knows the future. The rows
    of a user must be in time order.
    """
    if policy == "exact":
        return events.filter(pl.struct(USER, ITEM, TIME, EVENT).is_first_distinct())
    if policy == "first":
        return events.filter(pl.struct(USER, ITEM, EVENT).is_first_distinct())
    if policy == "consecutive":
        differs = [x.ne_missing(x.shift(1)).over(USER) for x in (ITEM, EVENT)]
        return events.filter(differs[0] | differs[1])
    return events


def k_core_round(
    events: pl.LazyFrame, *, min_user_events: int, min_item_events: int
) -> pl.LazyFrame:
    """Drop users and items with too few events, both counted before dropping.

    Repeated until no row goes, this gives the k-core: every user and item left has its events
    among those left. The counts see validation and test, a mild leak that most published data
    sets share (a kept item is known to reach its count one day): the default of 1 drops nothing.
    """
    return events.filter(
        (pl.len().over(USER) >= min_user_events) & (pl.len().over(ITEM) >= min_item_events)
    )
