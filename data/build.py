"""A source -> `events/`: the first stage, and the only file of this package that writes one.

events.parquet   user_id, item_id, timestamp, event (and session_id, value where there are any)
items.parquet    item_id and the columns declared in the manifest; absent where the source has none
users.parquet    user_id and background columns; absent where the source has none
outcomes.parquet user_id, at, label columns: given cases, of sources of persons only
ceiling.json     of the synthetic shop only: the best score that any model can reach
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import assert_never

import polars as pl

from data import log, movielens, synthetic
from data.aside import REJECTED
from data.config import DataConfig, LogFiles, MovieLens, PublicData, Synthetic
from data.life import LifeTables, check_life, load_files, load_meds
from data.life_config import LifeFiles, LifeStudy, MedsFiles
from data.life_studies import load_study
from data.partition import partition
from data.public import reading
from data.tables import Tables
from features.errors import InputError
from features.schema import check_events, check_items
from features.spread import Spread
from features.stage import refuse_existing, write_stage

EVENTS = "events.parquet"
ITEMS = "items.parquet"
USERS = "users.parquet"
OUTCOMES = "outcomes.parquet"

LifeSource = LifeFiles | MedsFiles | LifeStudy
"""Sources whose events are columns of fields instead of items: for outcome models."""


def load(config: DataConfig) -> Tables | LifeTables:
    """The tables of a source, in memory. Raises InputError for data that cannot be used."""
    match config:
        case Synthetic():
            return synthetic.load(config)
        case MovieLens():
            return movielens.load(config)
        case LogFiles():
            return log.load(config)
        case PublicData():
            return reading.load(config)
        case LifeFiles() | MedsFiles() | LifeStudy():
            return load_life(config)
        case _:
            assert_never(config)


def load_life(config: LifeSource) -> LifeTables:
    """The tables of a source of persons. Raises InputError for data that cannot be used."""
    match config:
        case LifeFiles():
            return load_files(config)
        case MedsFiles():
            return load_meds(config)
        case LifeStudy():
            return load_study(config)


def build_events(
    config: DataConfig, out: Path, base: Path | None = None, spread: Spread | None = None
) -> None:
    """Write the `events` stage of a source to `out`, which must not exist. Raises InputError.

    base: an older `events/` in parts that this log continues. spread: where the pieces of a log in
    parts are made; by default here. Prints one line of counts to stderr.
    """
    started = time.perf_counter()
    if isinstance(config, LogFiles) and config.parts:
        partition(config, out, base, spread)
        return
    if base is not None or spread is not None:
        raise InputError(
            "only a log in parts grows or is spread: set parts in [data] of source 'log'"
        )
    refuse_existing(out)
    tables = load(config)
    if isinstance(tables, LifeTables):
        _write_lives(tables, config, out)
        seconds = time.perf_counter() - started
        print(f"{out}: {describe_lives(tables)}; {seconds:.1f} s", file=sys.stderr)
        return
    check_events(tables.events, f"source {config.source!r}")
    if tables.items is not None:
        check_items(tables.items, f"items of {config.source!r}", tables.item_columns)
    about = {
        "source": asdict(config),
        "item_columns": dict(tables.item_columns),
        "title_column": tables.title_column,
        "licence": tables.licence,
        "citation": tables.citation,
        "notes": list(tables.notes),
        "raw_files": dict(tables.raw_files),
    }
    with write_stage(out, kind="events", config=about, parent="") as directory:
        tables.events.write_parquet(directory / EVENTS)
        if tables.items is not None:
            tables.items.write_parquet(directory / ITEMS)
        if tables.users is not None:
            tables.users.write_parquet(directory / USERS)
        if tables.rejected:
            (directory / REJECTED).write_text(tables.rejected)
        for name, content in tables.documents.items():
            (directory / name).write_text(json.dumps(content, indent=1) + "\n")
    if left_out := tables.rejected.count("\n"):
        print(f"{out}: {left_out:,} rows left out, listed in {REJECTED}", file=sys.stderr)
    seconds = time.perf_counter() - started
    print(f"{out}: {describe(tables)}; {seconds:.1f} s", file=sys.stderr)


def _write_lives(tables: LifeTables, config: DataConfig, out: Path) -> None:
    check_life(tables, f"source {config.source!r}")
    about = {
        "source": asdict(config),
        "licence": tables.licence,
        "citation": tables.citation,
        "raw_files": dict(tables.raw_files),
    }
    with write_stage(out, kind="events", config=about, parent="") as directory:
        tables.events.sort("user_id", "timestamp", maintain_order=True).write_parquet(
            directory / EVENTS
        )
        if tables.users is not None:
            tables.users.write_parquet(directory / USERS)
        if tables.outcomes is not None:
            tables.outcomes.write_parquet(directory / OUTCOMES)


def describe_lives(tables: LifeTables) -> str:
    """One line: events, persons, given cases."""
    cases = 0 if tables.outcomes is None else len(tables.outcomes)
    persons = tables.events["user_id"].n_unique()
    return f"{len(tables.events):,} events of {persons:,} persons, {cases:,} given cases"


def describe(tables: Tables) -> str:
    """One line: events by behaviour, users, items, and the span of time."""
    counts = tables.events.group_by("event").len().sort("len", "event", descending=True).rows()
    behaviours = ", ".join(f"{count:,} {event}" for event, count in counts[:8])
    users, items = tables.events.select(pl.col("user_id", "item_id").n_unique()).row(0)
    first, last = tables.events.select(
        first=pl.col("timestamp").min(), last=pl.col("timestamp").max()
    ).row(0)
    return (
        f"{len(tables.events):,} events ({behaviours}) of {users:,} users on {items:,} items, "
        f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    )
