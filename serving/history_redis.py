"""Histories in Redis, for several serving hosts: the promises of `serving.history`.

A user is one list, appended to, trimmed and given a new expiry in one transaction. How much an
acknowledged event is worth is Redis' configuration: with `appendfsync everysec` up to a second is
lost in a crash, and replication is asynchronous. Valkey speaks the same protocol (untested).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.catalogue import RawId
from serving.errors import StateError
from serving.history import CAP, TIMEOUT, TTL, Event, check_events, latest, user_key


class RedisHistory:
    """Connections are pooled; a server that does not answer raises within `timeout`."""

    def __init__(
        self,
        url: str,
        *,
        cap: int = CAP,
        ttl: float = TTL,
        timeout: float = TIMEOUT,
        prefix: str = "recsys:history:",
    ) -> None:
        """url: redis://host:port/database, rediss:// or unix://. Connects when first asked; raises
        StateError for a url that is none. cap: events. ttl, timeout: seconds.
        """
        self.cap, self.ttl, self._prefix = cap, ttl, prefix
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise StateError(f"{url.split('@')[-1]} is not a Redis url: {error}") from error

    def append(self, user: RawId, events: Sequence[Event]) -> None:
        """Remember events, all or none; raises StateError (a retry is safe) or RequestError."""
        if not events:
            return
        check_events(events)
        key = self._key(user)
        with self._reported(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.rpush(key, *(json.dumps(event) for event in events[-self.cap :]))
            pipeline.ltrim(key, -self.cap, -1)
            pipeline.pexpire(key, int(self.ttl * 1_000))
            pipeline.execute()

    def last(self, user: RawId, n: int) -> list[Event]:
        """The n latest events, oldest first; empty for an unknown user. Raises StateError."""
        with self._reported():
            found: Any = self._client.lrange(self._key(user), 0, -1)
            rows = json.loads(b"[" + b",".join(found) + b"]")
            return latest((Event(*row) for row in rows), n)

    def forget(self, user: RawId) -> None:
        """Remove everything about a user; raises StateError."""
        with self._reported():
            self._client.delete(self._key(user))

    def ping(self) -> None:
        """Raise StateError unless the server answers."""
        with self._reported():
            self._client.ping()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _key(self, user: RawId) -> bytes:
        return self._prefix.encode() + user_key(user)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise StateError(f"redis: {error}") from error
        except (ValueError, TypeError) as error:
            raise StateError(f"redis holds something that is no history: {error}") from error
