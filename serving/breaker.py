"""What may fail without taking the answers with it: a circuit breaker around stores and indexes.

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


class Breaker:
    """Safe to share between threads."""

    def __init__(self, what: str, *, failures: int = 3, cooldown: float = 1.0) -> None:
        """failures: in a row until it opens. cooldown: seconds between attempts while open."""
        self._what, self._limit, self._cooldown = what, failures, cooldown
        self._lock = threading.Lock()
        self._failed, self._retry_at = 0, 0.0
        self.errors = 0
        """Calls that failed, so far."""

    @property
    def is_open(self) -> bool:
        """Whether what it guards counts as lost."""
        return self._failed >= self._limit

    def call(self, call: Callable[[], T]) -> T:
        """The result, or StateError: that of the call, or at once while open."""
        with self._lock:
            if self.is_open:
                if time.monotonic() < self._retry_at:
                    raise StateError(f"{self._what} is lost, next attempt soon")
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


class GuardedHistory:
    """A HistoryStore around another. Safe to share between threads."""

    def __init__(self, store: HistoryStore, *, failures: int = 3, cooldown: float = 1.0) -> None:
        """failures, cooldown: as of `Breaker`."""
        self._store = store
        self._breaker = Breaker("the history store", failures=failures, cooldown=cooldown)

    @property
    def errors(self) -> int:
        """Calls that the store failed, so far."""
        return self._breaker.errors

    @property
    def is_open(self) -> bool:
        """Whether the store counts as lost."""
        return self._breaker.is_open

    def append(self, user: RawId, events: Sequence[Event]) -> None:
        """As the store, or StateError at once."""
        self._breaker.call(lambda: self._store.append(user, events))

    def last(self, user: RawId, n: int) -> list[Event]:
        """As the store, or StateError at once."""
        return self._breaker.call(lambda: self._store.last(user, n))

    def forget(self, user: RawId) -> None:
        """As the store, or StateError at once."""
        self._breaker.call(lambda: self._store.forget(user))

    def ping(self) -> None:
        """As the store, or StateError at once."""
        self._breaker.call(self._store.ping)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
