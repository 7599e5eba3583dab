"""What a batch job is: its bundle, its input, its question, and the parts it falls into.

A source is one of

    dataset/          a dataset directory: slices of `part_size` users
    events.parquet    one file: slices of `part_size` users
    shards/           a folder of Parquet files, or a pattern with *: one part a file

A file holds events (`user_id`, `item_id`, optionally `timestamp` and `event`; oldest first) or
contexts, one row a user: `user_id`, `history` (a list of item ids, which may be empty), optionally
`timestamps`, `events` (lists of the same lengths) and `at`. A user stands in one file only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from features.errors import InputError
from features.stage import MANIFEST, read_manifest

HistoryPart = Literal["all", "validation", "test"]
"""All events of a user, or those before a split."""
What = Literal["lists", "rows", "vectors", "item-vectors", "similar-items"]
"""Of users lists: one row a user; rows: one row a recommended item; vectors. And of items."""
ABOUT_ITEMS: tuple[What, ...] = ("item-vectors", "similar-items")


@dataclass(frozen=True, slots=True)
class Part:
    """One output file: users [first, last) of a source, or all users of one file."""

    number: int
    source: str
    """Path of the dataset or file."""
    first: int = 0
    last: int = -1
    """-1: to the end."""

    @property
    def file(self) -> str:
        """Name of the output file."""
        return f"part-{self.number:05d}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every worker is told: everything that changes an answer."""

    what: What = "lists"
    k: int = 100
    """Items listed, at most."""
    history: HistoryPart = "all"
    explain: int = 0
    """Items of each list that are explained: `serving.jobs.explained`; for lists only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleQuestion:
    """What every worker is told: everything that changes an answer."""

    persons: str = ""
    """Parquet of background columns; empty: none."""
    at: str = ""
    """ISO time: events from then on are left out; empty: none is."""
    embedding: bool = False
    """Also the person's vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job is; another plan does not continue it."""

    bundle: str
    """sha256 of the bundle's manifest."""
    source: str
    """sha256 of the dataset's manifest, of the file, or of the names, sizes and times of files."""
    question: Question | PeopleQuestion
    parts: tuple[Part, ...]
    users: int
    """Of all parts; -1 where only reading the files tells."""

    def to_json(self) -> str:
        """The text by which two plans are compared; it holds no paths, so a job may be moved."""
        content: dict[str, Any] = asdict(self)
        content["parts"] = [
            [part.number, Path(part.source).name, part.first, part.last] for part in self.parts
        ]
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def summary(self) -> Mapping[str, Any]:
        """For the manifest of the result."""
        return {
            "bundle": self.bundle,
            "source": self.source,
            "question": asdict(self.question),
            "parts": len(self.parts),
        }


def slices(source: Path, users: int, part_size: int) -> tuple[Part, ...]:
    """Parts of `part_size` users of one source."""
    starts = range(0, users, part_size)
    return tuple(
        Part(number, str(source), first, min(first + part_size, users))
        for number, first in enumerate(starts)
    )


def is_dataset(source: Path) -> bool:
    """Whether `source` is a dataset directory."""
    return source.is_dir() and (source / MANIFEST).is_file()


def shard_files(source: Path) -> list[Path]:
    """The Parquet files of a folder or a pattern, by name; raises InputError where none is found.

    Hidden files and the temporary ones of a writer are not taken.
    """
    if source.is_dir():
        found = sorted(source.glob("*.parquet"))
    else:
        found = sorted(source.parent.glob(source.name))
    found = [path for path in found if path.is_file() and not path.name.startswith((".", "_"))]
    if not found:
        raise InputError(
            f"{source} holds no *.parquet file: expected a dataset, a Parquet file, or a folder or "
            f"pattern of Parquet files"
        )
    return found


def files_digest(files: list[Path]) -> str:
    """Names, sizes and times of change of files: reading 100 GB twice would be worse."""
    state = [
        [path.name, stat.st_size, stat.st_mtime_ns] for path in files for stat in [path.stat()]
    ]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def dataset_digest(source: Path) -> str:
    """sha256 of the dataset's manifest; raises InputError where it is none."""
    return read_manifest(source, "dataset").sha256
