"""Rows that a server writes down as it goes: rotating Parquet files of one schema.

    directory/exposures-20261124T101500.123456-4711-0000.parquet

Recording never waits and never fails a request: rows go into a bounded queue, and one thread writes
a file whenever enough rows or enough time have come together. Each file is written under a
temporary name, synced and renamed, so a reader sees whole files only. A kill loses at most the
rows of the last `seconds`; rows that find the queue full or the disk failing are dropped and
counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from os import getpid
from pathlib import Path
from typing import Any

import polars as pl

from features.stage import sync

log = logging.getLogger(__name__)


class ParquetLog:
    """A writer of one kind of rows; several processes may write into one directory."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        schema: pl.Schema,
        *,
        rows: int = 50_000,
        seconds: float = 60.0,
        keep_days: float | None = None,
    ) -> None:
        """rows, seconds: a file is written at the latest after so many. keep_days: older files of
        this kind are removed; None keeps all. The directory is made, readable by its owner only.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory, self.kind, self.schema = directory, kind, schema
        self._rows, self._seconds, self._keep_days = rows, seconds, keep_days
        self._waiting: deque[Sequence[Any]] = deque()
        self._wake, self._closed, self._writing = threading.Event(), False, threading.Lock()
        self._files = 0
        self.written, self.dropped = 0, 0
        """Rows so far."""
        self._thread = threading.Thread(target=self._run, name=f"{kind} log", daemon=True)
        self._thread.start()

    def record(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows, in the order of the schema's columns; drops them where too many wait."""
        if self._closed or len(self._waiting) + len(rows) > 4 * self._rows:
            self.dropped += len(rows)
            return
        self._waiting.extend(rows)
        if len(self._waiting) >= self._rows:
            self._wake.set()

    def flush(self) -> None:
        """Write what is waiting now."""
        with self._writing:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not batch:
                return
            try:
                self._write(pl.DataFrame(batch, schema=self.schema, orient="row"))
                self.written += len(batch)
            except (OSError, pl.exceptions.PolarsError):
                self.dropped += len(batch)
                log.exception("%s: %d rows of %s lost", self.directory, len(batch), self.kind)

    def close(self) -> None:
        """Write what is waiting, and stop."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._seconds)
            self._wake.clear()
            self.flush()
            self._remove_old()

    def _write(self, frame: pl.DataFrame) -> None:
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        name = f"{self.kind}-{stamp}-{getpid()}-{self._files:04d}.parquet"
        self._files += 1
        temporary = self.directory / f".{name}.tmp"
        try:
            frame.write_parquet(temporary)
            sync(temporary)
            temporary.rename(self.directory / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(self.directory)

    def _remove_old(self) -> None:
        if self._keep_days is None:
            return
        oldest = time.time() - self._keep_days * 86_400
        for path in self.directory.glob(f"{self.kind}-*.parquet"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
