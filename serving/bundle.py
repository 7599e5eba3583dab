"""The format of a bundle, and the only code that reads or writes its manifest.

    manifest.json      `Manifest`: what the bundle is made of, sha256 and size of every file
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
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.stage import file_sha256, lock, partial_path, publish, refuse_existing
from serving.errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
FILE_TYPES = (".onnx", ".npy", ".arrow", ".parquet", ".json")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class Strict(BaseModel):
    """Frozen; refuses unknown keys and converts nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(Strict):
    """What a file of the bundle must be."""

    sha256: str
    size: int
    """Bytes."""


class ModelSpec(Strict):
    """A neural source: an ONNX graph from history to vector, and the vectors of the items."""

    kind: Literal["model"] = "model"
    name: str
    model: str
    """Name in recsys.models.MODELS, for the record."""
    encoder: str
    """Graph with one output (B, D) float32."""
    inputs: tuple[str, ...]
    """Input names of `features.encode`, in the order of the graph."""
    vectors: str
    """(N + 1, D) float16; row i belongs to dense id i."""
    max_len: int
    """Longest history the graph takes, in events; the most recent are used."""
    dim: int
    candidates: int
    """Items proposed for the ranker to choose from."""


class NeighbourSpec(Strict):
    """Item-to-item neighbours as a sparse matrix (CSR): row i belongs to dense id i."""

    kind: Literal["item_knn"] = "item_knn"
    name: str
    indptr: str
    indices: str
    scores: str
    candidates: int


class PopularitySpec(Strict):
    """One score an item, the same for everybody; also the fallback for new users."""

    kind: Literal["popularity"] = "popularity"
    name: str
    scores: str
    """(N + 1,) float32."""
    candidates: int


SourceSpec = Annotated[ModelSpec | NeighbourSpec | PopularitySpec, Field(discriminator="kind")]


class RankerSpec(Strict):
    """A second stage over the features of `features.asof`."""

    kind: Literal["lightgbm"] = "lightgbm"
    graph: str
    """(n, F) float32 features -> one score each."""
    features: tuple[str, ...]
    """Names of the F columns; the loading code must produce exactly these."""


class PolicySpec(Strict):
    """What is applied to every answer unless the request says otherwise."""

    exclude_seen: bool = True


class Parity(Strict):
    """Greatest difference of onnxruntime from torch over one batch of histories."""

    batch: int
    length: int
    """Events of the longest history; 0 is a batch of empty histories."""
    max_abs_difference: float
    scale: float
    """Greatest absolute value in the torch output."""


class IndexRecall(Strict):
    """Share of the exact top k that the index finds, on held-out histories."""

    source: str
    index: str
    k: int
    queries: int
    recall: float


class Golden(Strict):
    """A request and its answer at export, in dense ids: a loaded bundle must repeat it."""

    items: tuple[int, ...]
    timestamps: tuple[int, ...]
    events: tuple[int, ...]
    at: int
    expected: tuple[int, ...]
    scores: tuple[float, ...]


class Manifest(Strict):
    """Everything a reader may rely on."""

    format_version: Literal[1] = FORMAT_VERSION
    dataset: str
    """sha256 of the manifest of the dataset the bundle was made from."""
    run: str
    """sha256 of the manifest of the training run; empty where no neural model is inside."""
    num_items: int
    sources: tuple[SourceSpec, ...]
    """In order of priority: an item proposed twice belongs to the first."""
    ranker: RankerSpec | None = None
    policy: PolicySpec = PolicySpec()
    parity: tuple[Parity, ...] = ()
    index_recall: tuple[IndexRecall, ...] = ()
    golden: tuple[Golden, ...] = ()
    config: dict[str, Any]
    """The export configuration."""
    report: dict[str, Any] = {}
    """Notes of the export: how the ranker was trained and what it gained."""
    versions: dict[str, str] = {}
    """Of the libraries that wrote the graphs."""
    files: dict[str, FileEntry] = {}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle directory."""

    path: Path
    manifest: Manifest
    version: str
    """First 12 digits of the manifest's sha256: the name given in every answer."""

    def array(self, name: str) -> NDArray:
        """A `.npy` file, memory-mapped and read-only; raises BundleError if it is not one."""
        try:
            return np.load(self.path / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleError(f"{self.path / name} cannot be read: {error}") from error


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
    """Yield an empty directory to fill and `seal`; on success it becomes `out`, whole or not at all.

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
    for name, entry in manifest.files.items():
        _check_file(path / name, entry)
    return Bundle(path, manifest, digest[:12])


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
            f"{path}: {where}: {first['msg']} ({error.error_count()} such): "
            f"export the bundle again"
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
