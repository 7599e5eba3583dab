"""A log as jagged arrays: all events in one row of values, and where each user's part starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.schema import SESSION_ID, Events
from features.vocabulary import number_by_appearance

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """E events of U users, grouped by user, oldest first; events at one time keep the log's order.

    users: raw ids, (U,), by first appearance in the log.  offsets: (U + 1,), no user is empty.
    raw_items: (E,).  timestamps: (E,) microseconds UTC.  events: (E,) codes from 1.
    sessions: (E,) numbers of the named sessions; (0,) where the log names none.
    """

    users: pa.Array
    offsets: Rows
    raw_items: pa.Array
    timestamps: Rows
    events: NDArray[np.uint8]
    sessions: Rows

    def __len__(self) -> int:
        return len(self.timestamps)

    def take(self, rows: Rows, offsets: Rows) -> "Sequences":
        """The events at `rows`, ascending, with the users' new offsets."""
        return replace(
            self,
            offsets=offsets,
            raw_items=self.raw_items.take(pa.array(rows)),
            timestamps=self.timestamps[rows],
            events=self.events[rows],
            sessions=self.sessions[rows] if len(self.sessions) else self.sessions,
        )

    def with_items(self, raw_items: pa.Array) -> "Sequences":
        """The same events on other names of the items, (E,)."""
        return replace(self, raw_items=raw_items)

    def truncate(self, ends: Rows) -> "Sequences":
        """Without the events at or after row `ends`, (U,), of each user. All users remain."""
        if np.array_equal(ends, self.offsets[1:]):
            return self
        lengths = ends - self.offsets[:-1]
        kept = np.arange(len(self)) < np.repeat(ends, np.diff(self.offsets))
        return self.take(np.flatnonzero(kept), np.concatenate([[0], np.cumsum(lengths)]))


def group_by_user(events: pl.DataFrame, event_types: Sequence[str]) -> Sequences:
    """Sequences of a log whose rows are in time order within each user.

    Code i + 1 stands for `event_types[i]`, which must name every behaviour of the log.
    """
    user_codes, users = number_by_appearance(events[Events.user_id.name].to_arrow())
    codes = dict(zip(event_types, range(1, len(event_types) + 1), strict=True))
    sessions = np.empty(0, np.int64)
    if SESSION_ID in events.columns:
        sessions, _ = number_by_appearance(events[SESSION_ID].to_arrow())
    counts = np.bincount(user_codes, minlength=len(users))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    sequences = Sequences(
        users,
        offsets,
        events[Events.item_id.name].to_arrow(),
        events[Events.timestamp.name].to_physical().to_numpy(),
        events[Events.event.name].replace_strict(codes, return_dtype=pl.UInt8).to_numpy(),
        sessions,
    )
    if (np.diff(user_codes) >= 0).all():  # most logs on disk are grouped already
        return sequences
    return sequences.take(np.argsort(user_codes, kind="stable"), offsets)


def sessions_as_users(sequences: Sequences, gap: int) -> Sequences:
    """The same events, each session as a user of its own, called `<user>/<number of session>`.

    gap: microseconds, as in `session_starts`.
    """
    starts = session_starts(sequences, gap)
    owners = np.searchsorted(sequences.offsets, starts, side="right") - 1
    numbers = np.arange(len(starts)) - np.searchsorted(owners, owners) + 1
    users = pl.Series(pl.from_arrow(sequences.users.take(pa.array(owners)))).cast(pl.String)
    names = (users + "/" + pl.Series(numbers).cast(pl.String)).to_arrow()
    return replace(sequences, users=names, offsets=np.append(starts, len(sequences)))


def session_starts(sequences: Sequences, gap: int) -> Rows:
    """First row of every session, ascending; each user's first event starts one.

    A session ends where the named session changes or, in a log that names none, before a pause
    longer than `gap` microseconds. Interleaved named sessions count as several.
    """
    starts = np.zeros(len(sequences), np.bool_)
    starts[sequences.offsets[:-1]] = True
    if len(sequences.sessions):
        starts[1:] |= np.diff(sequences.sessions) != 0
    else:
        starts[1:] |= np.diff(sequences.timestamps) > gap
    return np.flatnonzero(starts)
