"""events/ to a dataset of lives: documents, cases and labels for outcome models.

1. read events, persons and given outcomes; of a log also the item columns that [life] names
2. find the cases (cohorts) and split the persons
3. fit tokens on what training persons did before they were asked about (life_tokens)
4. write the files of `features.life_layout`; nothing later than a person's last case is kept
5. read them back and prove that no history holds an event of its outcome window
"""

import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features import life_layout as layout
from features.cohorts import AT, PERSON, TIME, find_cases
from features.errors import InputError
from features.life_config import LifeConfig, LifeField
from features.life_layout import LifeSchema, OutcomeColumn
from features.life_store import Lives
from features.life_tokens import (
    field_size,
    fit_fields,
    require,
)
from features.life_write import write_arrays
from features.progress import steps
from features.stage import read_manifest, verify_files, write_stage

BIRTH_FIELDS = (LifeField(name="birth_month"), LifeField(name="birth_year"))
MIN_TRAINING = 10
"""Cases with fewer persons to train on are refused."""


@dataclass(frozen=True, slots=True)
class LifeTables:
    """What a source says of persons. events: user_id, timestamp, fields; by person and time."""

    events: pl.DataFrame
    users: pl.DataFrame | None
    outcomes: pl.DataFrame | None
    items: pl.DataFrame | None
    """item_id and the columns that the events take from it."""


def build_lives(events: Path, config: LifeConfig, out: Path) -> None:
    """Build the dataset of lives `out` from the directory `events`; prints a line to stderr.

    The same input and config give the same bytes. Raises InputError for unusable tables or config,
    or when `out` exists. `out` appears whole or not at all.
    """
    started = time.perf_counter()
    parent = read_manifest(events, "events")
    described = {"life": _plain(asdict(config))}
    with (
        write_stage(out, kind=layout.LIVES, config=described, parent=parent.sha256) as directory,
        steps("lives") as say,
    ):
        say("reading the events")
        verify_files(events, parent)
        tables = read_tables(events, config)
        say("finding the cases")
        cases = find_cases(tables.events, tables.users, tables.outcomes, config)
        say("encoding")
        write_lives(directory, tables, cases, config)
        say("proving that nothing leaks")
        lives = Lives.open(directory, built=True)
        prove_time_cut(lives)
    line = summarise(lives)
    print(f"{out}: {line}; {time.perf_counter() - started:.1f} s", file=sys.stderr)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value


def read_tables(directory: Path, config: LifeConfig) -> LifeTables:
    """The tables of an `events` stage; item columns that [life] names are joined to the events."""
    events = pl.read_parquet(directory / "events.parquet")
    wanted = [name for field in config.fields for name in (field.name, field.by) if name]
    items_path, items = directory / "items.parquet", None
    if missing := list(dict.fromkeys(name for name in wanted if name not in events.columns)):
        table = pl.read_parquet(items_path) if items_path.is_file() else pl.DataFrame()
        if {"item_id", *missing} <= set(table.columns):
            items = table.select("item_id", *missing)
            events = events.join(items, on="item_id", how="left")
    require(events, config.fields, f"{directory}/events.parquet")
    if events.schema[TIME] != pl.Datetime("us"):
        raise InputError(
            f"{directory}/events.parquet has {TIME} of type {events.schema[TIME]}, expected "
            f"Datetime(us): load the log with `recsys events`"
        )
    users = _optional(directory / "users.parquet")
    asked = [*(field.name for field in config.background), config.birth, config.follow_up_end]
    if any(asked):
        absent = sorted(
            {name for name in asked if name} - set(users.columns if users is not None else ())
        )
        if users is None or absent:
            raise InputError(f"{directory}/users.parquet lacks {absent}, which [life] names")
        require(users, config.background, f"{directory}/users.parquet")
    events = events.sort(PERSON, TIME, maintain_order=True)
    return LifeTables(events, users, _optional(directory / "outcomes.parquet"), items)


def _optional(path: Path) -> pl.DataFrame | None:
    return pl.read_parquet(path) if path.is_file() else None


def split_people(people: pl.Series, config: LifeConfig) -> NDArray[np.uint8]:
    """Split code of each person: a random permutation in the order of their ids."""
    n = len(people)
    order = np.random.default_rng(config.seed).permutation(n)
    num_test, num_validation = round(n * config.test), round(n * config.validation)
    codes = np.zeros(n, np.uint8)
    codes[order[:num_test]] = layout.SPLITS.index("test")
    codes[order[num_test : num_test + num_validation]] = layout.SPLITS.index("validation")
    if (codes == 0).sum() < MIN_TRAINING or len(np.unique(codes)) < len(layout.SPLITS):
        raise InputError(
            f"{n} persons are too few to split: at least {MIN_TRAINING} must train and one each "
            f"validate and test"
        )
    return codes


def with_birth(users: pl.DataFrame, config: LifeConfig) -> pl.DataFrame:
    """Add the columns behind `birth_tokens`."""
    if not config.birth_tokens:
        return users
    birth = pl.col(config.birth)
    return users.with_columns(birth_month=birth.dt.month(), birth_year=birth.dt.year())


def write_lives(
    directory: Path, tables: LifeTables, cases: pl.DataFrame, config: LifeConfig
) -> None:
    """Write every file of `features.life_layout` but the manifest."""
    people = cases.select(PERSON).unique().sort(PERSON)
    people = people.with_columns(pl.Series("split", split_people(people[PERSON], config)))
    last = cases.group_by(PERSON).agg(last=pl.col(AT).max())
    events = tables.events.join(last, on=PERSON, how="inner").filter(pl.col(TIME) < pl.col("last"))
    events = events.sort(PERSON, TIME, maintain_order=True)
    users = people
    if tables.users is not None:
        known = tables.users.unique(PERSON, keep="first", maintain_order=True)
        users = with_birth(people.join(known, on=PERSON, how="left"), config).sort(PERSON)
    training = people.filter(pl.col("split") == 0).select(PERSON)
    background = (*config.background, *(BIRTH_FIELDS if config.birth_tokens else ()))
    first = len(layout.GENERAL)
    fitted_background = fit_fields(users.join(training, on=PERSON, how="semi"), background, first)
    first += sum(map(field_size, fitted_background))
    fitted = fit_fields(events.join(training, on=PERSON, how="semi"), config.fields, first)
    latest = cases[AT].max()
    assert isinstance(latest, datetime)
    schema = LifeSchema(
        fields=fitted,
        background=fitted_background,
        outcomes=tuple(
            OutcomeColumn(
                name=o.name,
                kind=o.kind,
                classes=o.num_classes,
                unlabelled_share=o.unlabelled_share,
                values=o.values if o.rule == "first_value" else (),
            )
            for o in config.outcomes
        ),
        merge=config.merge,
        birth=config.birth,
        birth_tokens=config.birth_tokens,
        origin=None if config.origin == "first_event" else _microseconds(config.origin),
        clock_seconds=config.clock_seconds,
        raw_user_type="str" if people[PERSON].dtype == pl.String else "int",
        default_at=int(latest.replace(tzinfo=UTC).timestamp()) * layout.MICROSECONDS,
    )
    (directory / layout.LIFE).write_text(schema.to_json())
    if tables.items is not None:
        tables.items.write_parquet(directory / layout.ITEMS)
    write_arrays(directory, events, users, cases, schema)


def _microseconds(day: date) -> int:
    start = datetime.combine(day, clock(), tzinfo=UTC)
    return int(start.timestamp()) * layout.MICROSECONDS


def prove_time_cut(lives: Lives) -> None:
    """Raise InputError if a history holds an event from its landmark on, or a person two splits."""
    ends, starts = lives.cases["cut"], lives.users["start"][lives.cases["user"]]
    filled = ends > starts
    late = lives.timestamps[ends[filled] - 1] >= lives.cases["at"][filled]
    if late.any():
        raise InputError(f"{lives.path}: {late.sum()} histories reach into their outcome window")
    within = lives.users["end"][lives.cases["user"]]
    missed = (ends < within) & (
        lives.timestamps[np.minimum(ends, len(lives.timestamps) - 1)] < lives.cases["at"]
    )
    if missed.any():
        raise InputError(f"{lives.path}: {missed.sum()} histories end before their landmark")
    pairs = np.unique(np.stack([lives.cases["user"], lives.cases["split"]]), axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        raise InputError(f"{lives.path}: a person is in two splits")


def summarise(lives: Lives) -> str:
    """One line: cases, persons, events, tokens, and how often each outcome occurs."""
    parts = []
    for t, outcome in enumerate(lives.schema.outcomes):
        labels = lives.cases["labels"][:, t]
        known = labels[~np.isnan(labels)]
        share = f"{known.mean():.1%}" if outcome.classes == 2 else f"{outcome.classes} classes"
        parts.append(f"{outcome.name} {share} of {len(known):,}")
    sizes = np.bincount(lives.cases["split"], minlength=3)
    return (
        f"{len(lives.cases['user']):,} cases ({sizes[0]:,} train, {sizes[1]:,} validation, "
        f"{sizes[2]:,} test) of {len(lives.users['start']):,} persons, "
        f"{len(lives.timestamps):,} events, {lives.schema.num_tokens:,} tokens; {', '.join(parts)}"
    )
