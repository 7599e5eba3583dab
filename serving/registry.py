"""A directory of published bundles and a pointer to the one that serves.

    versions/000042-1f3a9c0b7d2e/   a bundle: read-only, never changed, verified and tried
    signatures/000042-...sig        Ed25519 over the manifest's sha256, where releases are signed
    CURRENT                         "<version> <sha256 of its manifest>"
    releases.jsonl                  when each version became current, and from when on no longer

Publishing writes into a hidden sibling, syncs, tries it in a child process, renames, and only then
replaces CURRENT by a rename: a reader sees one version or the next. Readers hold a shared lock on
the directory of their version; collection leaves locked, current and recent versions alone.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.stage import lock, partial_path, publish, sync
from serving.bundle import Bundle, open_bundle
from serving.canary import Trial, try_bundle
from serving.errors import BundleError
from serving.signature import PublicKey, SigningKey

VERSIONS, SIGNATURES, CURRENT, RELEASES = "versions", "signatures", "CURRENT", "releases.jsonl"
POINTER = re.compile(r"(\d{6,}-[0-9a-f]{12}) ([0-9a-f]{64})\n")
VERSION = re.compile(r"\d{6,}-[0-9a-f]{12}")
KEEP = 3
KEEP_DAYS = 1.0
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Release:
    """A version and the hash of its manifest."""

    version: str
    sha256: str

    def line(self) -> str:
        """As CURRENT has it."""
        return f"{self.version} {self.sha256}\n"


class Registry:
    """Publishes, points and collects. Any number of readers; writers take turns by a lock.

    public_key: refuse releases that are not signed with its private half.
    """

    def __init__(self, path: Path, *, public_key: PublicKey | None = None) -> None:
        self.path, self.public_key = path, public_key

    def directory(self, version: str) -> Path:
        """Where a version lies."""
        return self.path / VERSIONS / version

    def versions(self) -> list[str]:
        """Names of all published versions, oldest first."""
        directory = self.path / VERSIONS
        if not directory.is_dir():
            return []
        return sorted(path.name for path in directory.iterdir() if VERSION.fullmatch(path.name))

    def current(self) -> Release:
        """What CURRENT says; raises BundleError where it is missing or damaged."""
        path = self.path / CURRENT
        try:
            found = POINTER.fullmatch(path.read_text("ascii"))
        except FileNotFoundError:
            raise BundleError(
                f"{self.path} has no {CURRENT}: publish a bundle with `recsys publish`"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        if found is None:
            raise BundleError(f"{path} is damaged: roll back with `recsys rollback`")
        return Release(*found.groups())

    def open(self, release: Release) -> Bundle:
        """Verify a version completely: hashes, the pointer's hash, the signature if one is asked.

        Raises BundleError.
        """
        bundle = open_bundle(self.directory(release.version))
        if bundle.sha256 != release.sha256:
            raise BundleError(
                f"{bundle.path} has the manifest {bundle.sha256[:12]}, {CURRENT} names "
                f"{release.sha256[:12]}: roll back or publish again"
            )
        if self.public_key is not None:
            self.public_key.check(release.sha256, self._signature(release.version))
        return bundle

    def good_releases(self) -> Iterator[Release]:
        """Published versions other than CURRENT's, newest first, with the hash they have now."""
        for version in reversed(self.versions()):
            try:
                bundle = open_bundle(self.directory(version))
            except BundleError:
                continue
            yield Release(version, bundle.sha256)

    def publish(
        self, bundle: Path, *, canary: bool = True, signing_key: SigningKey | None = None
    ) -> tuple[Release, Trial | None]:
        """Copy a bundle in as the next version, try it, and make it current.

        Raises BundleError, and InputError where another writer is at work. A kill at any moment
        leaves the former version current, or the new one, whole.
        """
        source = open_bundle(bundle)
        with self._writing():
            release = Release(f"{self._next_number():06d}-{source.version}", source.sha256)
            directory = self.directory(release.version)
            partial = partial_path(directory)
            _remove(partial)
            shutil.copytree(bundle, partial)
            try:
                _refuse_changed(bundle, source.sha256, open_bundle(partial).sha256)
                trial = try_bundle(partial) if canary else None
                for path in partial.iterdir():
                    path.chmod(0o444)
                if signing_key is not None:
                    self._write_signature(release, signing_key)
                partial.chmod(0o555)
                publish(partial, directory)
            except BaseException:
                _remove(partial)
                raise
            self._point_to(release)
        return release, trial

    def roll_back(self, version: str | None = None) -> Release:
        """Point CURRENT to an older version, by default the one before, after verifying it.

        Raises BundleError where there is no such version or it is not whole.
        """
        with self._writing():
            if version is None:
                version = self._version_before()
            elif version not in self.versions():
                raise BundleError(f"{self.path} has no version {version}: it has {self.versions()}")
            release = Release(version, open_bundle(self.directory(version)).sha256)
            self.open(release)
            self._point_to(release)
        return release

    def collect(self, *, keep: int = KEEP, keep_days: float = KEEP_DAYS) -> list[str]:
        """Delete old versions and what killed writers left; returns the names of the deleted.

        Kept are the newest `keep`, the current one, those that were current within `keep_days`,
        and those a running process serves.
        """
        with self._writing():
            for orphan in [*(self.path / VERSIONS).glob(".*.partial"), *self.path.glob(".*.tmp")]:
                _remove(orphan)
            spared = set(self.versions()[-keep:]) if keep else set()
            spared |= self._recent(time.time() - keep_days * DAY)
            deleted = []
            for version in self.versions():
                if version not in spared and self._retire(version):
                    deleted.append(version)
            return deleted

    @contextmanager
    def hold(self, version: str) -> Iterator[None]:
        """Keep a version from being collected, by this or any other process."""
        handle = self.take_hold(version)
        try:
            yield
        finally:
            os.close(handle)

    def take_hold(self, version: str) -> int:
        """A file descriptor that keeps a version from being collected until it is closed."""
        try:
            handle = os.open(self.directory(version), os.O_RDONLY)
        except OSError as error:
            raise BundleError(f"{self.directory(version)} cannot be opened: {error}") from error
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle

    @contextmanager
    def _writing(self) -> Iterator[None]:
        (self.path / VERSIONS).mkdir(parents=True, exist_ok=True)
        with lock(self.path / CURRENT):
            yield

    def _next_number(self) -> int:
        names = [*self.versions(), *(version for version, _ in self._history())]
        return 1 + max((int(name.partition("-")[0]) for name in names), default=0)

    def _point_to(self, release: Release) -> None:
        """Replace CURRENT, whole or not at all, and note it."""
        with (self.path / RELEASES).open("a") as stream:
            stream.write(json.dumps({"version": release.version, "at": time.time()}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary = self.path / f".{CURRENT}.tmp"
        temporary.write_text(release.line())
        sync(temporary)
        temporary.replace(self.path / CURRENT)
        sync(self.path)

    def _history(self) -> list[tuple[str, float]]:
        """Which version became current when; lines that a kill cut off are left out."""
        path = self.path / RELEASES
        found = []
        for line in path.read_text().splitlines() if path.is_file() else ():
            try:
                content = json.loads(line)
                found.append((str(content["version"]), float(content["at"])))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def _recent(self, since: float) -> set[str]:
        """Versions that were current at some moment after `since`, CURRENT's among them."""
        try:
            now = self.current().version
        except BundleError:
            return set(self.versions())  # nobody knows which one serves: keep all
        history = self._history()
        if now in [version for version, _ in history]:
            while history[-1][0] != now:  # noted by a writer killed before it replaced CURRENT
                history.pop()
        ends = [at for _, at in history[1:]] + [time.time()]
        recent = {version for (version, _), end in zip(history, ends, strict=False) if end >= since}
        return recent | {now}

    def _version_before(self) -> str:
        try:
            now = self.current().version
        except BundleError:
            now = ""
        older = [name for name in self.versions() if name < now or not now]
        if not older:
            raise BundleError(f"{self.path} has no version before {now or 'the current one'}")
        return older[-1]

    def _retire(self, version: str) -> bool:
        """Delete a version unless somebody holds it."""
        try:
            handle = self.take_exclusive(version)
        except BlockingIOError:
            return False
        try:
            directory = self.directory(version)
            doomed = partial_path(directory)
            directory.rename(doomed)  # no longer a version, whatever happens next
            _remove(doomed)
            (self.path / SIGNATURES / f"{version}.sig").unlink(missing_ok=True)
        finally:
            os.close(handle)
        return True

    def take_exclusive(self, version: str) -> int:
        """A descriptor with the exclusive lock; raises BlockingIOError where it is held."""
        handle = os.open(self.directory(version), os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        return handle

    def _signature(self, version: str) -> bytes:
        path = self.path / SIGNATURES / f"{version}.sig"
        try:
            return path.read_bytes()
        except OSError as error:
            raise BundleError(f"{version} is not signed ({path}: {error.strerror})") from error

    def _write_signature(self, release: Release, key: SigningKey) -> None:
        directory = self.path / SIGNATURES
        directory.mkdir(exist_ok=True)
        path = directory / f"{release.version}.sig"
        path.write_bytes(key.sign(release.sha256))
        sync(path)
        sync(directory)


def _refuse_changed(bundle: Path, before: str, copied: str) -> None:
    if before != copied:
        raise BundleError(f"{bundle} was changed while it was copied: publish it again")


def _remove(path: Path) -> None:
    """Delete a directory that may be read-only, or a file; absent is as good."""
    if path.is_dir():
        path.chmod(0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
