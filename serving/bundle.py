"""A bundle on disk, and the only code that reads or writes one.

    manifest.json      `serving.manifest`: what the bundle is made of, sha256 and size of every file
    manifest.sha256    sha256 of manifest.json, so that a flipped byte there is noticed too
    *.onnx *.npy *.arrow *.parquet *.json    flat, nothing else: no pickle, no code, no links

A bundle is written into a hidden sibling, sealed, synced and renamed; afterwards it is never
changed. `open_bundle` recomputes every hash: it returns a whole bundle or raises BundleError.
"""

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from features.stage import file_sha256, lock, partial_path, publish, refuse_existing
from serving.errors import BundleError
from serving.manifest import FORMAT_VERSION, FileEntry, Manifest

MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
MIN_RECALL = 0.9
"""Recall of an index below which a bundle does not load: the search would decide the answers."""
FILE_TYPES = (".onnx", ".npy", ".arrow", ".parquet", ".json")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle directory."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of the manifest; empty for a bundle that is still being made."""

    @property
    def version(self) -> str:
        """The name given in every answer."""
        return self.sha256[:12]

    def array(self, name: str, shape: tuple[int, ...], dtype: type) -> NDArray:
        """A `.npy` file, memory-mapped and read-only; raises BundleError if it is another array."""
        path = self.path / name
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        if mapped.shape != shape or mapped.dtype != dtype:
            raise BundleError(
                f"{path} holds {mapped.dtype} {mapped.shape}, expected {np.dtype(dtype)} {shape}"
            )
        return np.asarray(mapped)  # a plain view: indexing the memmap class costs microseconds


def refuse_blind_index(bundle: Bundle, least: float = MIN_RECALL) -> None:
    """Raise BundleError where the export measured a lower recall of an index than `least`."""
    for measured in bundle.manifest.index_recall:
        if measured.recall < least:
            raise BundleError(
                f"{bundle.path}: the index {measured.index} of {measured.source} finds "
                f"{measured.recall:.3f} of the exact top {measured.k}, at least {least} is asked: "
                f"are the item vectors degenerate? Train again, or load with a lower min_recall"
            )


def seal(directory: Path, draft: Manifest) -> Manifest:
    """Write the manifest of `draft` over all files now in `directory`, and its hash."""
    files = {
        path.name: FileEntry(sha256=file_sha256(path), size=path.stat().st_size)
        for path in sorted(directory.iterdir())
        if path.name not in {MANIFEST, SEAL}
    }
    manifest = draft.model_copy(update={"files": files})
    content = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    (directory / MANIFEST).write_text(content)
    (directory / SEAL).write_text(hashlib.sha256(content.encode()).hexdigest() + "\n")
    return manifest


@contextmanager
def write_bundle(out: Path) -> Iterator[Path]:
    """Yield an empty directory to fill and `seal`; on success it becomes `out`, whole or not.

    Raises InputError when `out` exists or is being written, BundleError when the result would
    not load.
    """
    refuse_existing(out)
    with lock(out):
        partial = partial_path(out)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            open_bundle(partial)
            for path in partial.iterdir():
                path.chmod(0o444)
            publish(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def open_bundle(path: Path) -> Bundle:
    """Verify a bundle completely: names, kinds and sizes of files, every hash, every key.

    Raises BundleError naming the first file at fault.
    """
    if not path.is_dir():
        raise BundleError(f"{path} is not a directory: expected a bundle made by `recsys export`")
    content = _read(path / MANIFEST)
    digest = hashlib.sha256(content).hexdigest()
    if _read(path / SEAL) != f"{digest}\n".encode():
        raise BundleError(
            f"{path / MANIFEST} does not match {SEAL}: one of the two is damaged; "
            f"copy or export the bundle again"
        )
    manifest = _parse(path / MANIFEST, content)
    _check_names(path, manifest.files)
    if outside := sorted(manifest.part_files() - manifest.files.keys()):
        raise BundleError(f"{path / MANIFEST} names {outside[:5]} as parts, not among its files")
    for name, entry in manifest.files.items():
        _check_file(path / name, entry)
    return Bundle(path, manifest, digest)


def predicts_outcomes(path: Path) -> bool:
    """Whether a bundle predicts outcomes of persons; anything unreadable is left to its loader."""
    try:
        return json.loads((path / MANIFEST).read_bytes()).get("outcomes") is not None
    except (OSError, ValueError, AttributeError):
        return False


def _read(path: Path) -> bytes:
    _check_kind(path)
    return path.read_bytes()


def _parse(path: Path, content: bytes) -> Manifest:
    try:
        loose = json.loads(content)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}): export the bundle again") from error
    version = loose.get("format_version") if isinstance(loose, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this release reads {FORMAT_VERSION}: "
            f"export the bundle again with this release"
        )
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path}: {where}: {first['msg']} ({error.error_count()} such): export the bundle again"
        ) from error


def _check_names(path: Path, files: Mapping[str, FileEntry]) -> None:
    present = {entry.name for entry in path.iterdir()} - {MANIFEST, SEAL}
    if missing := sorted(files.keys() - present):
        raise BundleError(f"{path} lacks {missing[:5]}: copy or export the bundle again")
    if extra := sorted(present - files.keys()):
        raise BundleError(f"{path} holds {extra[:5]}, which its manifest does not list")
    for name in files:
        if not FILE_NAME.fullmatch(name) or not name.endswith(FILE_TYPES):
            raise BundleError(
                f"{path / name} is not allowed in a bundle: names are made of letters, digits, "
                f". _ - and end in one of {', '.join(FILE_TYPES)}"
            )


def _check_kind(path: Path) -> None:
    """Only plain files with one name: a link could be changed behind the bundle's back."""
    try:
        found = path.lstat()
    except OSError as error:
        raise BundleError(f"{path} is missing: copy or export the bundle again") from error
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise BundleError(f"{path} is a link or not a plain file: copy the content instead")


def _check_file(path: Path, entry: FileEntry) -> None:
    _check_kind(path)
    if (size := path.stat().st_size) != entry.size:
        raise BundleError(
            f"{path} has {size} bytes, the manifest says {entry.size}: "
            f"copy or export the bundle again"
        )
    if (found := file_sha256(path)) != entry.sha256:
        raise BundleError(
            f"{path} is damaged: sha256 {found[:12]}, the manifest says {entry.sha256[:12]}; "
            f"copy or export the bundle again"
        )
