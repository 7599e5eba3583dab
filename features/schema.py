"""The tables that cross the package's edge, and the sentences that refuse a bad one.

This file is the only place that spells a column of a log. Raw ids are the source's, Int64 or
String; time is a Datetime in microseconds without a zone and means UTC. Other columns may ride
along (session_id, value, context): they are kept, and not checked here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import dataframely as dy
import polars as pl

from features import exposures
from features.errors import InputError
from features.layout import Kind

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SESSION_ID = "session_id"
"""Optional column of Events: an Int64 or String that names the session."""

FUTURE = timedelta(days=1)
"""How far after now an event may lie: clocks differ, and zones get confused."""

EPOCH = datetime(1970, 1, 1)
ID_TYPES = (pl.Int64, pl.String)
SHOWN = 3
"""Offending rows named in an error."""


class Events(dy.Schema):
    """One interaction per row; each user's rows stand in the order in which they happened."""

    user_id = dy.Any()
    item_id = dy.Any()
    timestamp = dy.Datetime(time_unit="us", min=EPOCH)
    event = dy.String(min_length=1)

    @dy.rule()
    def ids_are_known(cls) -> pl.Expr:  # noqa: N805 - a class method
        """Neither id is null."""
        return cls.user_id.col.is_not_null() & cls.item_id.col.is_not_null()

    @dy.rule()
    def a_user_never_goes_back_in_time(cls) -> pl.Expr:  # noqa: N805 - a class method
        """Rows of a user are sorted by time; equal times keep the log's order."""
        return ~goes_back_in_time()


class Items(dy.Schema):
    """One item per row; the declared columns beside the id differ from source to source."""

    item_id = dy.Any(check=lambda item: item.is_not_null() & item.is_unique())


class Users(dy.Schema):
    """One user per row; the declared columns beside the id differ from source to source."""

    user_id = dy.Any(check=lambda user: user.is_not_null() & user.is_unique())


def goes_back_in_time() -> pl.Expr:
    """True where an event is older than the same user's event above it."""
    time = Events.timestamp.col
    return (time < time.shift(1).over(Events.user_id.name)).fill_null(value=False)


def check_events(
    events: Frame, where: str, *, now: datetime | None = None, ordered: bool = True
) -> Frame:
    """Return `events` unchanged, or raise InputError with the first fault found.

    `where` names the log in the message (a path). Refused are a missing column, a wrong type, an
    empty log, null ids, null or empty behaviours, times before 1970 or more than a day after
    `now` (default: the clock, UTC), and a user's rows out of order, unless `ordered` is False: of
    a piece of a log, where that is seen to later. Costs one pass.
    """
    check_types(events, where, {"user_id": ID_TYPES, "item_id": ID_TYPES, "event": (pl.String,)})
    check_types(events, where, {"timestamp": (pl.Datetime("us"),)})
    now = now or datetime.now(UTC).replace(tzinfo=None)
    time, event = Events.timestamp.col, Events.event.col
    faults = {
        "have no user_id: drop them, or name the users": Events.user_id.col.is_null(),
        "have no item_id: drop them, or name the items": Events.item_id.col.is_null(),
        "have no timestamp: drop them, or give the time": time.is_null(),
        "have no event: name the behaviour, for instance 'view'": event.is_null() | (event == ""),
        "are dated before 1970: are the timestamps in the unit that was declared?": time < EPOCH,
        f"are dated after {now + FUTURE:%Y-%m-%d %H:%M}, in the future: "
        "are the timestamps in the unit that was declared?": time > now + FUTURE,
    }
    if ordered:
        sentence = (
            "are older than the same user's row before them: sort the log by time, ties as they "
            'happened (for log files, order = "sort" does it)'
        )
        faults[sentence] = goes_back_in_time()
    _refuse_faults(events, where, faults)
    return events


def check_sessions(events: Frame, where: str) -> Frame:
    """Return `events` unchanged, or raise InputError unless each row names its session."""
    check_types(events, where, {SESSION_ID: ID_TYPES})
    missing = {
        f"have no {SESSION_ID}: name the sessions, or drop the column": pl.col(SESSION_ID).is_null()
    }
    _refuse_faults(events, where, missing)
    return events


def check_items(items: Frame, where: str, columns: Mapping[str, Kind]) -> Frame:
    """Return `items` unchanged, or raise InputError; `columns` declares the kinds of columns."""
    number = (pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt64, pl.UInt32, pl.UInt16, pl.UInt8)
    types: dict[Kind, tuple[pl.DataType | type[pl.DataType], ...]] = {
        "text": (pl.String,),
        "category": (pl.String, *number),
        "categories": (pl.List(pl.String),),
        "path": (pl.List(pl.String),),
        "numeric": (pl.Float64, pl.Float32, *number),
        "timestamp": (pl.Datetime("us"),),
    }
    expected = {name: types[kind] for name, kind in columns.items()}
    check_types(items, where, {"item_id": ID_TYPES} | expected)
    item = Items.item_id.col
    faults = {
        "have no item_id: drop them, or name the items": item.is_null(),
        "repeat an item_id: keep one row an item": ~item.is_first_distinct(),
    }
    _refuse_faults(items, where, faults)
    return items


def check_exposures(log: Frame, where: str) -> Frame:
    """Return an exposure log unchanged, or raise InputError; its contract is `features.exposures`.

    Refused are a missing column, a wrong type, an empty log, nulls, ranks below 1, propensities
    outside (0, 1], rewards that are no number, and a rank filled twice in one request.
    """
    integers = (pl.Int32, pl.Int64, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8)
    floats = (pl.Float64, pl.Float32)
    check_types(log, where, dict.fromkeys(("request_id", "user_id", "item_id"), ID_TYPES))
    check_types(log, where, {exposures.AT: (pl.Datetime("us"),), exposures.RANK: integers})
    check_types(log, where, {exposures.PROPENSITY: floats, exposures.REWARD: floats})
    chance, reward = pl.col(exposures.PROPENSITY), pl.col(exposures.REWARD)
    place = pl.struct(exposures.REQUEST_ID, exposures.RANK)
    missing = {
        f"have no {name}: an exposure without it cannot be used": pl.col(name).is_null()
        for name in exposures.COLUMNS
    }
    faults = missing | {
        "have a rank below 1: the top is rank 1": pl.col(exposures.RANK) < 1,
        "have a propensity that is not above 0 and at most 1: log the chance with which the item "
        "was drawn": ~((chance > 0) & (chance <= 1)),
        "have a reward that is no finite number: 0 is nothing": ~reward.is_finite(),
        "fill a rank of a request that is filled already": ~place.is_first_distinct(),
    }
    _refuse_faults(log, where, faults)
    return log


def check_types(
    frame: pl.DataFrame | pl.LazyFrame,
    where: str,
    expected: Mapping[str, tuple[pl.DataType | type[pl.DataType], ...]],
) -> None:
    """Raise InputError unless every column of `expected` exists with one of its types."""
    found = frame.collect_schema()
    for name, types in expected.items():
        wanted = " or ".join(str(t) for t in types[:2])
        if name not in found:
            raise InputError(
                f"{where} has no column {name} (it has: {', '.join(found) or 'none'}): "
                f"add it, or map the source's column to {name} ({wanted})"
            )
        if found[name] not in types:
            raise InputError(
                f"{where} has column {name} of type {found[name]}, expected {wanted}: "
                f"cast it where the log is loaded"
            )


def _refuse_faults(
    frame: pl.DataFrame | pl.LazyFrame, where: str, faults: Mapping[str, pl.Expr]
) -> None:
    """Raise InputError for an empty table, or for the first of `faults` that any row has."""
    lazy = frame.lazy()
    sums = [fault.sum().alias(str(i)) for i, fault in enumerate(faults.values())]
    counts = lazy.select(pl.len().alias("rows"), *sums).collect().row(0)
    if not counts[0]:
        raise InputError(f"{where} is empty: it has the columns, and no rows")
    for (sentence, fault), count in zip(faults.items(), counts[1:], strict=True):
        if count:
            rows = lazy.with_row_index("row", offset=1).filter(fault).head(SHOWN).collect()
            shown = [
                "row " + ", ".join(f"{v}" if k == "row" else f"{k}={v}" for k, v in row.items())
                for row in rows.select(rows.columns[:5]).to_dicts()
            ]
            raise InputError(
                f"{where}: {count} of {counts[0]} rows {sentence} (first: {'; '.join(shown)})"
            )
