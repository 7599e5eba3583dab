"""What users did lately: a capped ring of events per user, in SQLite or Redis.

A store has two methods that matter, `append` and `last`. Raw ids go in and come out, so a history
outlives the bundle that is serving. Both stores keep the same promises (one contract suite):

    cap    the last `cap` events appended to a user are kept
    ttl    a history that nothing is appended to for `ttl` seconds is gone
    order  `last` gives oldest first by timestamp, whatever the order of arrival
    retry  an event that arrives twice, equal in all parts, counts once
    loss   a store that is down, slow or broken raises StateError within its time-out

`SQLiteHistory` is for the processes of one host; `serving.history_redis` for several hosts.
"""

import json
import sqlite3
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from serving.catalogue import RawId
from serving.errors import RequestError, StateError

CAP = 200
"""Events kept of a user, by default."""
TTL = 90 * 86_400.0
"""Seconds that a history is kept after its last event, by default."""
TIMEOUT = 0.05
"""Seconds until a store that does not answer counts as lost, by default."""


class Event(NamedTuple):
    """Something a user did."""

    item: RawId
    timestamp: int
    """Microseconds UTC."""
    event: str
    """Behaviour: view, click, buy, ..."""


class HistoryStore(Protocol):
    """Remembers what users did. Safe to share between threads; other processes may write too."""

    def append(self, user: RawId, events: Sequence[Event]) -> None:
        """Remember events, safe from a kill of this process. Raises StateError, and RequestError
        for a timestamp out of range.
        """
        ...

    def last(self, user: RawId, n: int) -> list[Event]:
        """The n latest events, oldest first; empty for an unknown user. Raises StateError."""
        ...

    def forget(self, user: RawId) -> None:
        """Remove everything about a user; raises StateError."""
        ...

    def ping(self) -> None:
        """Raise StateError unless the store answers."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


FARTHEST = 1 << 54
"""Microseconds from 1970, either way: some 570 years."""


def check_events(events: Sequence[Event]) -> None:
    """Raise RequestError for events that a store cannot keep."""
    for event in events:
        if not -FARTHEST < event.timestamp < FARTHEST:
            raise RequestError(
                f"timestamp {event.timestamp} is beyond {FARTHEST}: microseconds UTC are expected"
            )


def user_key(user: RawId) -> bytes:
    """What a user is stored under; 7 and "7" are the same user."""
    return str(user).encode("utf-8", "surrogatepass")


def latest(events: Iterable[Event], n: int) -> list[Event]:
    """Of events in order of arrival the n latest, oldest first, repeated ones once."""
    ordered = sorted(dict.fromkeys(events), key=lambda event: event.timestamp)
    return ordered[-n:] if n > 0 else []


SLOT = struct.Struct("<qq")
"""One event of a ring: item code, and timestamp << 8 | behaviour code."""
MAX_BEHAVIOURS = 255
SMALL = 1 << 62
PURGE_EVERY = 1_000
"""Appends between removals of expired histories."""
PURGE_ROWS = 2_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS histories(user BLOB PRIMARY KEY, expires INTEGER, ring BLOB);
CREATE INDEX IF NOT EXISTS histories_by_expiry ON histories(expires);
CREATE TABLE IF NOT EXISTS items(code INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS behaviours(code INTEGER PRIMARY KEY, name TEXT UNIQUE);
"""
FIND = "SELECT ring FROM histories WHERE user = ? AND expires > ?"


class SQLiteHistory:
    """One file in WAL mode: readers never wait for the writer, and writers of several processes
    take turns. A kill of the process loses nothing that `append` returned from; a power cut may
    lose the last commits, never the file (synchronous=NORMAL).

    A user's ring is one blob of 16 bytes an event. Integer ids are stored as they are, other ids
    and the names of behaviours through a table of names.
    """

    def __init__(
        self, path: Path, *, cap: int = CAP, ttl: float = TTL, timeout: float = TIMEOUT
    ) -> None:
        """Open or create the file; raises StateError. cap: events. ttl, timeout: seconds."""
        self.path, self.cap, self.ttl, self.timeout = path, cap, ttl, timeout
        self._local, self._write_lock = threading.local(), threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._codes: dict[str, dict[str, int]] = {"items": {}, "behaviours": {}}
        self._names: dict[str, dict[int, str]] = {"items": {}, "behaviours": {}}
        self._appends = 0
        with self._reported(), self._writing() as database:
            for statement in SCHEMA.strip().split(";\n"):
                database.execute(statement)

    def append(self, user: RawId, events: Sequence[Event]) -> None:
        """Remember events; raises StateError or RequestError, and then none is remembered."""
        if not events:
            return
        check_events(events)
        now = time.time()
        with self._reported(), self._writing() as database:
            packed = b"".join(self._pack(database, event) for event in events[-self.cap :])
            found = database.execute(
                "SELECT ring FROM histories WHERE user = ? AND expires > ?",
                (user_key(user), _ms(now)),
            ).fetchone()
            ring = ((found[0] if found else b"") + packed)[-self.cap * SLOT.size :]
            database.execute(
                "INSERT OR REPLACE INTO histories VALUES (?, ?, ?)",
                (user_key(user), _ms(now + self.ttl), ring),
            )
            self._appends += 1
            if self._appends % PURGE_EVERY == 0:
                database.execute(
                    "DELETE FROM histories WHERE user IN "
                    "(SELECT user FROM histories WHERE expires <= ? LIMIT ?)",
                    (_ms(now), PURGE_ROWS),
                )

    def last(self, user: RawId, n: int) -> list[Event]:
        """The n latest events, oldest first; empty for an unknown user. Raises StateError."""
        with self._reported():
            database = self._connection()
            found = database.execute(FIND, (user_key(user), _ms(time.time()))).fetchone()
            return latest(self._unpack(database, found[0]), n) if found else []

    def forget(self, user: RawId) -> None:
        """Remove everything about a user; raises StateError."""
        with self._reported(), self._writing() as database:
            database.execute("DELETE FROM histories WHERE user = ?", (user_key(user),))

    def ping(self) -> None:
        """Raise StateError unless the file can be read and written."""
        with self._reported(), self._writing() as database:
            database.execute("SELECT 1 FROM histories LIMIT 1").fetchone()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._write_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """One for each thread: SQLite connections are not for sharing."""
        found = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(
                self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False
            )
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = found
            self._connections.append(found)
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; other threads wait here, other processes in SQLite."""
        if not self._write_lock.acquire(timeout=self.timeout):
            raise StateError(f"{self.path}: no turn to write within {self.timeout} s")
        try:
            database = self._connection()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                self._codes = {"items": {}, "behaviours": {}}  # may name rows rolled back
                raise
        finally:
            self._write_lock.release()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: {error}") from error

    def _pack(self, database: sqlite3.Connection, event: Event) -> bytes:
        small = isinstance(event.item, int) and -SMALL <= event.item < SMALL
        item = int(event.item) << 1 if small else self._code_of(database, "items", event.item) << 1
        behaviour = self._code_of(database, "behaviours", event.event)
        if behaviour > MAX_BEHAVIOURS:
            raise StateError(
                f"{self.path} knows {MAX_BEHAVIOURS} behaviours already, {event.event!r} is one "
                f"too many: behaviours are a few words such as view, click, buy"
            )
        return SLOT.pack(item if small else item | 1, event.timestamp << 8 | behaviour)

    def _unpack(self, database: sqlite3.Connection, ring: bytes) -> Iterator[Event]:
        for item, moment in SLOT.iter_unpack(ring):
            raw = json.loads(self._name_of(database, "items", item >> 1)) if item & 1 else item >> 1
            name = json.loads(self._name_of(database, "behaviours", moment & MAX_BEHAVIOURS))
            yield Event(raw, moment >> 8, name)

    def _code_of(self, database: sqlite3.Connection, table: str, raw: RawId) -> int:
        name = json.dumps(raw)
        code = self._codes[table].get(name)
        if code is None:
            database.execute(f"INSERT OR IGNORE INTO {table}(name) VALUES (?)", (name,))
            query = f"SELECT code FROM {table} WHERE name = ?"
            code = self._codes[table][name] = database.execute(query, (name,)).fetchone()[0]
        return code

    def _name_of(self, database: sqlite3.Connection, table: str, code: int) -> str:
        name = self._names[table].get(code)
        if name is None:
            query = f"SELECT name FROM {table} WHERE code = ?"
            found = database.execute(query, (code,)).fetchone()
            if found is None:
                raise StateError(f"{self.path} is damaged: a history names {table} {code}")
            name = self._names[table][code] = found[0]
        return name


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)
