"""A user's own function over events, named on the command line, and the events it is given."""

import importlib.util
from pathlib import Path
from typing import Any, cast

import polars as pl

from features.audit import Compute
from features.errors import InputError
from features.stage import read_manifest


def load_function(name: str) -> Compute:
    """The function that FILE.py:FUNCTION names; raises InputError where there is none."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise InputError(f"--columns {name!r}: expected FILE.py:FUNCTION, and {file!r} is no file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"{path} has no function {function!r}")
    return cast(Compute, found)


def read_events(directory: Path) -> pl.DataFrame:
    """All events of an `events/` stage, oldest first, ties as they stand."""
    manifest = read_manifest(directory, "events")
    names = [n for n in manifest.files if n == "events.parquet" or n.startswith("parts/")]
    frames = [pl.read_parquet(directory / name) for name in sorted(names)]
    events = pl.concat([f.with_columns(pl.col("event").cast(pl.String)) for f in frames])
    return events.sort("timestamp", maintain_order=True)
