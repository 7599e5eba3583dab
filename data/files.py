"""Globs and files of three formats -> frames of the wanted columns, each with its path."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from features.errors import InputError

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a table. `untyped`: a format without types, so that all columns are String."""

    path: Path
    frame: pl.DataFrame
    untyped: bool


def find_files(patterns: Sequence[str], key: str) -> list[Path]:
    """Files that match, each once, sorted within a pattern; `key` names the setting in an error."""
    found: dict[str, None] = {}
    for pattern in patterns:
        names = glob(pattern, recursive=True)  # noqa: PTH207 - takes absolute patterns too
        matches = sorted(name for name in names if Path(name).is_file())
        if not matches:
            raise InputError(f"no file matches {key} = {pattern!r} (looked from {Path.cwd()})")
        found.update(dict.fromkeys(matches))
    if not found:
        raise InputError(f"{key} is empty: name at least one file or glob")
    return [Path(name) for name in found]


@dataclass(frozen=True, slots=True)
class Scan:
    """One file of a table, opened but not read."""

    path: Path
    lazy: pl.LazyFrame
    untyped: bool


def read_files(
    paths: Sequence[Path],
    wanted: Mapping[str, str],
    *,
    optional: Sequence[str] = (),
    separator: str = ",",
) -> list[Piece]:
    """Read of each file the columns `wanted` (our name -> the file's), under our names.

    Columns of ours that are `optional` may be absent. Raises InputError naming the file.
    """
    console = Console(stderr=True)
    hidden = not console.is_terminal or len(paths) == 1
    shown = track(paths, "reading", console=console, disable=hidden)
    pieces = []
    for path in shown:
        scan = scan_file(path, wanted, optional, separator)
        with reading(path):
            pieces.append(Piece(path, scan.lazy.collect(), scan.untyped))
    return pieces


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the content of a file into an InputError that names it."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{path} is empty: it has neither columns nor rows") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}): is it damaged?") from error


def scan_file(
    path: Path,
    wanted: Mapping[str, str],
    optional: Sequence[str] = (),
    separator: str = ",",
    *,
    ragged: bool = False,
) -> Scan:
    """Open a file for the columns `wanted`. ragged: lines may have too many or too few fields."""
    name = path.name.lower()
    with reading(path):
        if name.endswith(CSV):
            apart = "\t" if ".tsv" in name else separator
            lazy = pl.scan_csv(
                path, infer_schema=False, separator=apart, truncate_ragged_lines=ragged
            )
        elif name.endswith(JSON_LINES):
            lazy = pl.scan_ndjson(path, infer_schema_length=None, ignore_errors=ragged)
        elif name.endswith(".parquet"):
            lazy = pl.scan_parquet(path)
        else:
            raise InputError(
                f"{path} is of no known format: expected a name in .parquet, "
                f"{', '.join(CSV)}, {', '.join(JSON_LINES)}"
            )
        columns = lazy.collect_schema().names()
        missing = [ours for ours, theirs in wanted.items() if theirs not in columns]
        if absent := [ours for ours in missing if ours not in optional]:
            ours = absent[0]
            raise InputError(
                f"{path} has no column {wanted[ours]} for {ours} "
                f"(it has: {', '.join(columns) or 'none'}): map {ours} to one of these"
            )
        kept = [pl.col(theirs).alias(o) for o, theirs in wanted.items() if o not in missing]
        return Scan(path, lazy.select(kept), name.endswith(CSV))
