"""Requests in the caller's terms -> histories in dense ids. Nothing malformed gets past here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from features.encode import Histories
from features.layout import DatasetSchema
from serving.catalogue import Catalogue, RawId
from serving.errors import RequestError
from serving.topk import Ints

History = Sequence[RawId] | Sequence[tuple[Any, ...]]
"""Oldest first: raw item ids, or (raw item id, moment) or (raw item id, moment, behaviour)."""
Moment = int | datetime
"""Microseconds UTC, or a datetime (without a zone: UTC)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FARTHEST = 1 << 63
"""Microseconds from 1970, in either direction, that fit 64 bits."""
UNKNOWN = 0
"""The code of a behaviour that the bundle does not know and whose events are left out."""
ENTRY = "(item id, timestamp) or (item id, timestamp, event)"


@dataclass(frozen=True, slots=True)
class Request:
    """One history, ready for the sources."""

    histories: Histories
    at: Ints
    """(1,) microseconds UTC."""
    unknown: int
    """Events left out because the bundle does not know their item or their behaviour."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Many histories. users: raw user ids in order of first appearance."""

    users: pl.Series
    histories: Histories
    at: Ints
    unknown: Ints
    """(U,) events of each user left out because the bundle does not know their item or their
    behaviour."""


class RequestReader:
    """Checks requests and translates them.

    schema: its `cutoff` is the moment of a request without one; its rules say whether events of
    unknown items or behaviours are left out or refused.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        codes: Mapping[str, int],
        default_code: int,
        schema: DatasetSchema,
    ) -> None:
        self._catalogue, self._codes = catalogue, codes
        self._default_code, self._cutoff = default_code, schema.cutoff
        self._refuse_items = schema.rule("item_id").unknown_value == "refuse"
        self._refuse_events = schema.rule("event").unknown_value == "refuse"

    @property
    def raw_ids(self) -> Sequence[RawId]:
        """By dense id; element 0 is padding."""
        return self._catalogue.raw_ids

    def read(self, history: History, at: Moment | None) -> Request:
        """One history; `at` defaults to its last event, and to the end of training without one."""
        if isinstance(history, str | bytes) or not isinstance(history, Sequence | np.ndarray):
            raise RequestError(
                f"a history is a sequence of item ids or of {ENTRY}, got {type(history).__name__}"
            )
        raw_ids: Sequence[Any]
        if len(history) and isinstance(history[0], tuple | list):
            raw_ids, timestamps, events = self._columns(history)
        else:
            raw_ids, timestamps, events = history, None, None
        items = self._catalogue.translate(raw_ids)
        if self._refuse_items and not items.all():
            self._refuse_unknown([raw_ids[place] for place in np.flatnonzero(items == 0).tolist()])
        last = self._cutoff if timestamps is None else int(timestamps[-1])
        moment = last if at is None else microseconds(at)
        if timestamps is None:
            timestamps = np.zeros(len(items), np.int64)  # unknown
        elif moment < last:
            raise RequestError(
                f"the history ends at {last} us, after the request's own moment {moment} us"
            )
        if events is None:
            events = np.full(len(items), self._default_code, np.int64)
        unknown = 0 if items.all() and events.all() else int(((items == 0) | (events == 0)).sum())
        if unknown:
            known = (items != 0) & (events != 0)
            items, timestamps, events = items[known], timestamps[known], events[known]
        ends = np.array([len(items)])
        histories = Histories(items, timestamps, events, np.zeros(1, np.int64), ends)
        return Request(histories, np.array([moment]), unknown)

    def _columns(self, history: Sequence[Any]) -> tuple[list[Any], Ints, Ints | None]:
        try:
            columns = list(zip(*history, strict=True))
        except (TypeError, ValueError):
            columns = []
        if len(columns) not in (2, 3):
            raise RequestError(f"every entry of a history must be {ENTRY}, all of them alike")
        timestamps = _timestamps(columns[1])
        if (late := np.flatnonzero(timestamps[1:] < timestamps[:-1])).size:
            raise RequestError(
                f"a history is given oldest first, but entry {late[0] + 1} is earlier than the "
                f"one before it ({late.size} such entries): sort it by timestamp"
            )
        events = None
        if len(columns) == 3:
            events = np.array([self._code(event) for event in columns[2]], np.int64)
        return list(columns[0]), timestamps, events

    def _code(self, event: Any) -> int:
        try:
            return self._codes[event]
        except (KeyError, TypeError):
            if not self._refuse_events and isinstance(event, str):
                return UNKNOWN
            raise RequestError(
                f"behaviour {event!r} is unknown, this bundle knows {sorted(self._codes)}"
            ) from None

    def _refuse_unknown(self, raw_ids: Sequence[Any]) -> None:
        raise RequestError(
            f"{len(raw_ids)} events are on items that this bundle does not know (first: "
            f"{raw_ids[:3]}), and its rules refuse such histories"
        )

    def read_frame(self, frame: pl.DataFrame) -> FrameRequest:
        """Events of many users: `user_id`, `item_id` and optionally `timestamp` and `event`.

        Within a user the oldest event comes first; users may be mixed.
        """
        schema = frame.schema
        for name in ("user_id", "item_id"):
            if name not in schema:
                raise RequestError(f"the frame lacks {name}: it has {list(schema)}")
        raw = self._catalogue.raw_series[1:]
        both_text = schema["item_id"] == pl.String and raw.dtype == pl.String
        if not (both_text or (schema["item_id"].is_integer() and raw.dtype.is_integer())):
            raise RequestError(
                f"item_id is {schema['item_id']}, item ids of this bundle are "
                f"{self._catalogue.raw_type.__name__}"
            )
        columns = [name for name in ("user_id", "item_id", "timestamp", "event") if name in schema]
        frame = frame.select(columns).with_columns(pl.col("item_id").cast(raw.dtype))
        nulls = {name: count for name in columns if (count := frame[name].null_count())}
        if nulls:
            raise RequestError(f"the frame holds nulls: {nulls} rows by column")
        if self._refuse_items:
            alien = frame.filter(~pl.col("item_id").is_in(raw.implode()))["item_id"]
            if len(alien):
                self._refuse_unknown(alien.to_list())
        vocabulary = pl.DataFrame({"item_id": raw, "item": range(1, len(raw) + 1)})
        grouped = (
            frame.with_columns(self._frame_timestamps(frame), self._frame_codes(frame))
            .join(vocabulary, on="item_id", how="left", maintain_order="left")
            .with_columns(known=pl.col("item").is_not_null() & (pl.col("event") != UNKNOWN))
            .group_by("user_id", maintain_order=True)
            .agg(
                pl.col("item", "timestamp", "event").filter("known"),
                unknown=(~pl.col("known")).sum(),
                last=pl.col("timestamp").last(),
                unsorted=(pl.col("timestamp").diff() < 0).any(),
            )
        )
        if count := int(grouped["unsorted"].sum()):
            first = grouped.filter("unsorted")["user_id"][0]
            raise RequestError(
                f"the events of {count} users are not oldest first, one is user {first!r}: "
                f"sort the frame by timestamp"
            )
        ends = grouped["item"].list.len().to_numpy().astype(np.int64).cumsum()
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]

        def flat(name: str) -> Ints:
            values = grouped[name].explode(empty_as_null=False)
            return values.to_numpy().astype(np.int64)

        histories = Histories(flat("item"), flat("timestamp"), flat("event"), starts, ends)
        dated = "timestamp" in frame.schema
        at = grouped["last"].to_numpy() if dated else np.full(len(grouped), self._cutoff)
        unknown = grouped["unknown"].to_numpy().astype(np.int64)
        return FrameRequest(grouped["user_id"], histories, at, unknown)

    def _frame_timestamps(self, frame: pl.DataFrame) -> pl.Expr:
        kind = frame.schema.get("timestamp")
        if kind is None:
            return pl.lit(0, pl.Int64).alias("timestamp")  # unknown
        if isinstance(kind, pl.Datetime):
            return pl.col("timestamp").dt.epoch("us")
        if kind.is_integer():
            return pl.col("timestamp").cast(pl.Int64)
        raise RequestError(f"timestamp is {kind}, expected a datetime or integer microseconds UTC")

    def _frame_codes(self, frame: pl.DataFrame) -> pl.Expr:
        if "event" not in frame.schema:
            return pl.lit(self._default_code, pl.Int64).alias("event")
        names = frame["event"].unique()
        unknown = [name for name in names.to_list() if name not in self._codes]
        if unknown and self._refuse_events:
            raise RequestError(
                f"behaviours {sorted(map(str, unknown))[:5]} are unknown, "
                f"this bundle knows {sorted(self._codes)}"
            )
        codes = list(self._codes.values())
        names = list(self._codes)
        return pl.col("event").replace_strict(names, codes, default=UNKNOWN, return_dtype=pl.Int64)


def microseconds(moment: Moment) -> int:
    """A moment as microseconds UTC; raises RequestError for anything else, nan included."""
    if type(moment) is int and abs(moment) < FARTHEST:  # as most are
        return moment
    return int(_timestamps([moment])[0])


def _timestamps(moments: Sequence[Any]) -> Ints:
    if set(map(type, moments)) == {int}:
        try:
            return np.array(moments, np.int64)
        except OverflowError:
            raise RequestError("timestamps must fit 64 bits: microseconds UTC") from None
    return np.array([_microseconds(moment) for moment in moments], np.int64)


def _microseconds(moment: Any) -> int:
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - EPOCH) // MICROSECOND
    if isinstance(moment, int | np.integer) and not isinstance(moment, bool):
        return int(moment)
    raise RequestError(
        f"a timestamp is a datetime or integer microseconds UTC, got {moment!r} "
        f"({type(moment).__name__})"
    )
