"""A history store that may fail without taking the answers with it: a circuit breaker.

Closed, every call goes through. After `failures` StateErrors in a row it opens: calls fail at once
instead of each waiting for a time-out. After `cooldown` seconds one call at a time tries again, and
the first success closes it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from serving.catalogue import RawId
from serving.errors import StateError
from serving.history import Event, HistoryStore

T = TypeVar("T")


class GuardedHistory:
    """A HistoryStore around another. Safe to share between threads."""

    def __init__(self, store: HistoryStore, *, failures: int = 3, cooldown: float = 1.0) -> None:
        """failures: in a row until it opens. cooldown: seconds between attempts while open."""
        self._store, self._limit, self._cooldown = store, failures, cooldown
        self._lock = threading.Lock()
        self._failed, self._retry_at = 0, 0.0
        self.errors = 0
        """Calls that the store failed, so far."""

    @property
    def is_open(self) -> bool:
        """Whether the store counts as lost."""
        return self._failed >= self._limit

    def append(self, user: RawId, events: Sequence[Event]) -> None:
        """As the store, or StateError at once."""
        self._call(lambda: self._store.append(user, events))

    def last(self, user: RawId, n: int) -> list[Event]:
        """As the store, or StateError at once."""
        return self._call(lambda: self._store.last(user, n))

    def forget(self, user: RawId) -> None:
        """As the store, or StateError at once."""
        self._call(lambda: self._store.forget(user))

    def ping(self) -> None:
        """As the store, or StateError at once."""
        self._call(self._store.ping)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _call(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self.is_open:
                if time.monotonic() < self._retry_at:
                    raise StateError("the history store is lost, next attempt soon")
                self._retry_at = time.monotonic() + self._cooldown  # this call is the attempt
        try:
            result = call()
        except StateError:
            with self._lock:
                self.errors += 1
                self._failed += 1
                self._retry_at = time.monotonic() + self._cooldown
            raise
        if self._failed:
            with self._lock:
                self._failed = 0
        return result
