"""Where tables of dated events of persons come from: one dataclass a source. No Polars here."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid")
TimeUnit = Literal["s", "ms", "us", "iso"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFile:
    """A table with a row a person, or a row a case."""

    __pydantic_config__ = STRICT

    paths: tuple[str, ...]
    """Files or globs; CSV, Parquet or JSON Lines, by suffix."""
    user_id: str = "user_id"
    times: tuple[str, ...] = ()
    """Columns that are times or dates (birth, end of follow-up). `at` of outcomes always is."""
    numbers: tuple[str, ...] = ()
    """Columns that are numbers."""
    columns: tuple[str, ...] = ()
    """Other columns to keep, as texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeFiles:
    """Your own tables of dated events: CSV, Parquet or JSON Lines, one event a row."""

    __pydantic_config__ = STRICT

    source: Literal["life"] = "life"
    paths: tuple[str, ...]
    """Files or globs of events."""
    user_id: str = "user_id"
    timestamp: str = "timestamp"
    unit: TimeUnit = "iso"
    """Of every time that is not typed as one: numbers since 1970, or ISO 8601 texts."""
    categories: tuple[str, ...] = ()
    """Event columns to keep as texts."""
    numbers: tuple[str, ...] = ()
    """Event columns to keep as numbers."""
    persons: PersonFile | None = None
    outcomes: PersonFile | None = None
    """Given cases: `user_id`, `at` and label columns (`numbers`)."""

    def __post_init__(self) -> None:
        if not (self.categories or self.numbers):
            raise ValueError("name the event columns to keep: categories, numbers, or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class MedsFiles:
    """Parquet shards of the Medical Event Data Standard."""

    __pydantic_config__ = STRICT

    source: Literal["meds-shards"] = "meds-shards"
    paths: tuple[str, ...]
    """Files or globs, for instance `meds/data/**/*.parquet`."""
    labels: tuple[str, ...] = ()
    """Parquet of MEDS labels: subject_id, prediction_time, boolean_value; makes given cases with
    the outcome `label`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeStudy:
    """A public study, read below the folder named by RECSYS_DATA."""

    __pydantic_config__ = STRICT

    source: Literal[
        "physionet2012-icu", "danish-diabetes", "skelleftea-children", "skelleftea-births"
    ]
