"""The recommender that serves now, with the items added and retired since its bundle was made.

    live = Live.of_bundle(path)            one bundle for good
    live = Live.of_registry(path)          follows CURRENT: verified, tried, loaded, then swapped
    recommender = live.recommender         one read: a request keeps what it started with

Changes of items are written to a journal before they show, and repeated at every start and for
every later bundle; an item that a later bundle knows by itself is not added again.
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from serving.catalogue import RawId
from serving.errors import BundleError, RequestError, ServingError
from serving.handle import ServingHandle
from serving.index import RemoteIndexes
from serving.recommender import Recommender

log = logging.getLogger(__name__)
NO_REGISTRY = "this server serves one bundle: start it with a registry to swap and roll back"
Row = Mapping[str, Any]


class Live:
    """Safe to share between threads: `recommender` may be read at any time, changes take turns."""

    def __init__(
        self, base: Recommender, handle: ServingHandle | None = None, journal: Path | None = None
    ) -> None:
        """journal: file of the changes of items; None forgets them at the end. Raises BundleError
        for a journal that cannot be read.
        """
        self._handle, self._journal = handle, journal
        self._added: dict[RawId, Row] = {}
        self._retired: set[RawId] = set()
        self._changing = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._stop = threading.Event()
        for change in _read(journal) if journal is not None else ():
            self._remember(change)
        self._base = base
        self.recommender = self._with_changes(base)
        """What serves now: read it once a request."""

    @classmethod
    def of_bundle(
        cls, path: Path, journal: Path | None = None, indexes: RemoteIndexes | None = None
    ) -> Self:
        """Verify, load and warm one bundle; raises BundleError.

        indexes: as of `Recommender.load`.
        """
        recommender = Recommender.load(path, indexes=indexes)
        recommender.check_golden()
        return cls(recommender, None, journal)

    @classmethod
    def of_registry(
        cls, path: Path, journal: Path | None = None, indexes: RemoteIndexes | None = None
    ) -> Self:
        """The current release of a registry, or the last that can be served; raises BundleError."""
        handle = ServingHandle.open(path, indexes=indexes)
        return cls(handle.recommender, handle, journal)

    @property
    def follows(self) -> bool:
        """Whether there is a registry whose CURRENT may change."""
        return self._handle is not None

    def refresh(self) -> bool:
        """Swap to what CURRENT names if that is another version; whether it was swapped. A release
        that is refused leaves the former one serving, and `status` says why.
        """
        if self._handle is None:
            raise BundleError(NO_REGISTRY)
        with self._changing:
            self._handle.refresh()
            if (base := self._handle.recommender) is self._base:
                return False
            self.recommender, self._base = self._with_changes(base), base
            return True

    def roll_back(self, version: str | None) -> bool:
        """Point the registry to an older version, by default the one before, and swap to it."""
        if self._handle is None:
            raise BundleError(NO_REGISTRY)
        self._handle.registry.roll_back(version)
        return self.refresh()

    def status(self) -> dict[str, Any]:
        """What serves, and what became of the latest attempt to replace it."""
        told: dict[str, Any] = {
            "bundle_version": self.recommender.bundle_version,
            "added_items": len(self._added),
            "retired_items": len(self._retired),
        }
        if self._handle is not None:
            status = self._handle.status
            told |= {
                "release": status.release.version,
                "swaps": status.swaps,
                "last_known_good": status.last_known_good,
                "refused": status.refused and status.refused.split()[0],
                "reason": status.reason,
            }
        return told

    def add_items(self, rows: Sequence[Row]) -> int:
        """Recommend new items too; how many were new. Raises RequestError, and then none is."""
        with self._changing:
            new = [row for row in rows if not self.recommender.knows(_id_of(row))]
            if new:
                larger = self.recommender.add_items(new)
                self._keep({"add": new})
                self.recommender = larger
            return len(new)

    def retire_items(self, raw_item_ids: Sequence[RawId]) -> int:
        """Never recommend these items again; how many of them are known."""
        with self._changing:
            smaller = self.recommender.retire_items(raw_item_ids)
            self._keep({"retire": list(raw_item_ids)})
            self.recommender = smaller
            return sum(map(smaller.knows, raw_item_ids))

    def watch(self, seconds: float, *, after: Callable[[], None] = lambda: None) -> None:
        """Refresh every so many seconds in a background thread, until `close`."""

        def run() -> None:
            while not self._stop.wait(seconds):
                try:
                    if self.refresh():
                        after()
                except Exception:  # what serves must go on being watched
                    log.exception("refresh")

        self._watcher = threading.Thread(target=run, name="live", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching; what serves keeps serving."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._handle is not None:
            self._handle.close()

    def _with_changes(self, base: Recommender) -> Recommender:
        made = base
        if new := [row for raw, row in self._added.items() if not base.knows(raw)]:
            try:
                made = made.add_items(new)
            except RequestError as error:
                log.error("%d added items do not fit %s: %s", len(new), base.bundle_version, error)  # noqa: TRY400
        return made.retire_items(self._retired) if self._retired else made

    def _keep(self, change: Mapping[str, Any]) -> None:
        if self._journal is not None:
            try:
                with self._journal.open("a") as stream:
                    stream.write(json.dumps(change) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
            except (OSError, TypeError) as error:
                raise ServingError(f"{self._journal} cannot be written: {error}") from error
        self._remember(change)

    def _remember(self, change: Mapping[str, Any]) -> None:
        self._added |= {_id_of(row): row for row in change.get("add", ())}
        self._retired |= set(change.get("retire", ()))


def _id_of(row: Row) -> RawId:
    raw = row.get("item_id")
    if not isinstance(raw, int | str) or isinstance(raw, bool):
        raise RequestError(f"every item needs an item_id, found {raw!r} in {list(row)[:5]}")
    return raw


def _read(path: Path) -> list[dict[str, Any]]:
    """All changes but a last line that a kill cut off."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    whole, rest = lines[:-1], lines[-1]
    try:
        changes = [json.loads(line) for line in whole]
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if rest:
        path.write_text("".join(f"{line}\n" for line in whole))
    return changes
