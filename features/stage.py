"""A stage's output directory: whole or absent, and traceable to its parent.

    raw -> events/ -> dataset/ -> run/ -> bundle/ -> predictions/ -> report/

`write_stage` fills a hidden sibling, records the hash of every file in `manifest.json`, syncs, and
renames: a reader sees the whole directory or none. A killed writer leaves only the sibling, which
the next writer of the same name removes.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from features.errors import InputError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageManifest:
    """What a stage directory says about itself."""

    kind: str
    """`events`, `dataset`, `run`, `predictions` or `report`."""
    config: Mapping[str, Any]
    parent: str
    """sha256 of the parent stage's manifest; empty where the stage reads raw files."""
    files: Mapping[str, str]
    """Relative path -> sha256 of the content."""
    sha256: str
    """Of the manifest file itself: the name by which children refer to this stage."""


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force one file, or the names in one directory, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Force every file and directory below `root` to disk."""
    for path in sorted(root.rglob("*")):
        sync(path)
    sync(root)


def publish(partial: Path, out: Path) -> None:
    """Sync `partial` and rename it to `out`, which must not exist."""
    sync_tree(partial)
    partial.rename(out)
    sync(out.parent)


def partial_path(out: Path) -> Path:
    """Where an unfinished `out` lives: a hidden sibling on the same file system."""
    return out.parent / f".{out.name}.partial"


def _acquired(stream: TextIO, path: Path) -> bool:
    """Whether this process now holds the lock, and on the file that still stands at `path`."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):  # held, or just removed by its last holder
        return False


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold the one writer's lock for `out`; raises InputError when another process holds it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f".{out.name}.lock"
    with path.open("w") as stream:
        if not _acquired(stream, path):
            raise InputError(f"{out} is being written by another process: wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def refuse_existing(out: Path) -> None:
    """Raise InputError when `out` exists: no stage overwrites another's result."""
    if out.exists():
        raise InputError(f"{out} exists: choose a new directory or delete it")


def write_manifest(
    directory: Path,
    kind: str,
    config: Mapping[str, Any],
    parent: str,
    *,
    known: Mapping[str, str] | None = None,
) -> None:
    """Write `manifest.json` over all files now in `directory`; hashes in `known` are taken over."""
    known = known or {}
    paths = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    files = {name: known.get(name) or file_sha256(path) for name, path in paths.items()}
    content = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "parent": parent,
        "config": config,
        "files": files,
    }
    (directory / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


@contextmanager
def write_stage(out: Path, *, kind: str, config: Mapping[str, Any], parent: str) -> Iterator[Path]:
    """Yield an empty directory to fill; on success it becomes `out`, on an error it is removed.

    Raises InputError when `out` exists or another process is writing it.
    """
    refuse_existing(out)
    with lock(out):
        refuse_existing(out)  # another writer may have finished in between
        partial = partial_path(out)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            write_manifest(partial, kind, config, parent)
            publish(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def read_manifest(directory: Path, kind: str) -> StageManifest:
    """Read and check `directory/manifest.json`; raises InputError if it is not a `kind` stage.

    File hashes are not recomputed here: `verify_files` does that.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{directory} has no {MANIFEST}: expected a directory of the stage `{kind}`"
        )
    text = path.read_bytes()
    try:
        content = json.loads(text)
        version = content["format_version"]
        found = content["kind"]
        manifest = StageManifest(
            kind=found,
            config=content["config"],
            parent=content["parent"],
            files=content["files"],
            sha256=hashlib.sha256(text).hexdigest(),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): build the directory again") from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, this release reads {FORMAT_VERSION}: "
            f"build the directory again"
        )
    if found != kind:
        raise InputError(f"{directory} holds the stage `{found}`, expected `{kind}`")
    return manifest


def verify_files(directory: Path, manifest: StageManifest) -> None:
    """Recompute every hash; raises InputError naming the first missing or changed file."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise InputError(f"{path} is missing: build {directory} again")
        if (found := file_sha256(path)) != expected:
            raise InputError(
                f"{path} is damaged: sha256 {found[:12]}, manifest says {expected[:12]}; "
                f"build {directory} again"
            )
