"""The recommender that serves now, and how another takes its place without a request noticing.

    handle = ServingHandle.open(Path("registry"))
    recommender = handle.recommender          # one read: a request keeps what it started with
    handle.refresh()                          # CURRENT changed? verify, try, load, warm, swap

Whatever goes wrong on the way to a swap leaves the old recommender serving and is kept in `status`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from serving.bundle import refuse_blind_index
from serving.canary import available_memory, try_bundle
from serving.catalogue import RawId
from serving.errors import BundleError, ServingError
from serving.index import RemoteIndexes
from serving.parts import Parts
from serving.recommender import Recommender
from serving.registry import Registry, Release
from serving.signature import PublicKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """What serves, and what became of the latest attempt to replace it."""

    release: Release
    loaded_at: float
    """Seconds since 1970."""
    swaps: int = 0
    last_known_good: bool = False
    """Whether CURRENT could not be served at the start, so that an older version does."""
    refused: str | None = None
    """The version that was refused last; it is not tried again until CURRENT changes."""
    reason: str | None = None
    """Why."""


class ServingHandle:
    """Holds the current recommender. `recommender` may be read from any thread at any time."""

    def __init__(
        self, registry: Registry, release: Release, recommender: Recommender, hold: int
    ) -> None:
        """From a loaded release; everyone uses `open`."""
        self.registry = registry
        self._recommender, self._base, self._hold = recommender, recommender, hold
        self.status = Status(release, time.time())
        self.threads, self.canary = 1, True
        self.indexes: RemoteIndexes | None = None
        self._retired: frozenset[RawId] = frozenset()
        self._swapping = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        threads: int = 1,
        canary: bool = True,
        public_key: PublicKey | None = None,
        indexes: RemoteIndexes | None = None,
    ) -> Self:
        """Load the current release of a registry, or the last known good one where it is bad.

        canary: try each release in a child process first (its first load costs as much again).
        indexes: as of `Recommender.load`. Raises BundleError where no published version can be
        served, and StateError where the remote indexes do not answer.
        """
        load = partial(_load, threads=threads, canary=canary, indexes=indexes)
        registry = Registry(path, public_key=public_key)
        refusal: tuple[str, str] | None = None
        try:
            release = registry.current()
            recommender, hold = load(registry, release)
        except BundleError as error:
            refusal = (_name_of(registry), str(error))
            log.error("%s cannot be served: %s", *refusal)  # noqa: TRY400 (no fault of this code)
            release, recommender, hold = _last_good(registry, error, load)
        handle = cls(registry, release, recommender, hold)
        handle.threads, handle.canary, handle.indexes = threads, canary, indexes
        if refusal is not None:
            handle.status = replace(
                handle.status, last_known_good=True, refused=refusal[0], reason=refusal[1]
            )
        return handle

    @property
    def recommender(self) -> Recommender:
        """What serves now: read it once a request."""
        return self._recommender

    def refresh(self) -> bool:
        """Swap to what CURRENT names if that is another version; whether it was swapped.

        Never raises for a bad release: the old one stays, `status` tells which and why.
        """
        with self._swapping:
            try:
                release = self.registry.current()
                if release == self.status.release or release.line() == self.status.refused:
                    return False
                recommender, hold = _load(
                    self.registry,
                    release,
                    threads=self.threads,
                    canary=self.canary,
                    indexes=self.indexes,
                )
            except ServingError as error:
                self._refuse(error)
                return False
            self._swap(release, recommender, hold)
            return True

    def _refuse(self, error: ServingError) -> None:
        refused = None
        if isinstance(error, BundleError):  # others may pass: the next refresh tries again
            with suppress(BundleError):
                refused = self.registry.current().line()
        if str(error) != self.status.reason:
            log.error("refused %s: %s", (refused or "CURRENT").strip(), error)
        self.status = replace(self.status, refused=refused, reason=str(error))

    def _swap(self, release: Release, recommender: Recommender, hold: int) -> None:
        old = self._hold
        self._base = recommender
        self._recommender = (
            recommender.retire_items(self._retired) if self._retired else recommender
        )
        self._hold = hold
        self.status = Status(release, time.time(), swaps=self.status.swaps + 1)
        if old >= 0:
            os.close(old)  # what old requests mapped stays readable until they end
        log.info("serving %s", release.version)

    def roll_back(self, version: str | None = None) -> bool:
        """Point the registry to an older version and swap to it; raises BundleError if there is
        none that is whole.
        """
        self.registry.roll_back(version)
        return self.refresh()

    def retire_items(self, raw_item_ids: Iterable[RawId]) -> None:
        """Never answer with these items again, in this and every later version."""
        with self._swapping:
            self._retired |= frozenset(raw_item_ids)
            self._recommender = self._base.retire_items(self._retired)

    def watch(self, seconds: float, *, after: Callable[[], None] | None = None) -> None:
        """Refresh every so many seconds in a background thread, until `close`.

        after: called after each swap, for instance to tell a metric.
        """
        if self._watcher is not None:
            raise RuntimeError("the handle is watching already")

        def run() -> None:
            while not self._stop.wait(seconds):
                if self.refresh() and after is not None:
                    after()

        self._watcher = threading.Thread(target=run, name="bundle-watcher", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching and let the version be collected; what serves keeps serving."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        with self._swapping:
            if self._hold >= 0:
                os.close(self._hold)
                self._hold = -1


def _load(
    registry: Registry,
    release: Release,
    *,
    threads: int,
    canary: bool,
    indexes: RemoteIndexes | None,
) -> tuple[Recommender, int]:
    """Hold, verify, try, load and warm a release; raises BundleError and then holds nothing."""
    hold = registry.take_hold(release.version)
    try:
        bundle = registry.open(release)
        if canary:
            _refuse_too_large(release.version, try_bundle(bundle.path).peak_bytes)
        if indexes is None:
            refuse_blind_index(bundle)
        recommender = Recommender(Parts.load(bundle, indexes=indexes), threads=threads)
        recommender.check_golden()  # warms what is allocated at the first answer
    except BaseException:
        os.close(hold)
        raise
    return recommender, hold


def _refuse_too_large(version: str, needed: int) -> None:
    """While a swap lasts both versions are in memory."""
    if needed > (free := available_memory()):
        raise BundleError(
            f"{version} takes {needed >> 20} MiB, but {free >> 20} MiB are available beside the "
            f"version that serves: free memory, then retry"
        )


def _last_good(
    registry: Registry,
    first: BundleError,
    load: Callable[[Registry, Release], tuple[Recommender, int]],
) -> tuple[Release, Recommender, int]:
    for release in registry.good_releases():
        try:
            recommender, hold = load(registry, release)
        except BundleError as error:
            log.error("%s cannot be served either: %s", release.version, error)  # noqa: TRY400
            continue
        return release, recommender, hold
    raise BundleError(f"no version of {registry.path} can be served: {first}") from first


def _name_of(registry: Registry) -> str:
    try:
        return registry.current().line()
    except BundleError:
        return "CURRENT"
