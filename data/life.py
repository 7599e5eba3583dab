"""Tables of dated events of persons -> canonical tables: your own files, and MEDS.

MEDS (Medical Event Data Standard): Parquet shards of subject_id, time, code, numeric_value. Rows
without a time are static: their codes become columns of the persons, one for what stands before
the first `//` (`GENDER//F` is gender F); MEDS_BIRTH becomes the column `birth`, not an event.
"""

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from data.columns import to_number, to_text, to_time
from data.files import find_files, read_files
from data.life_config import LifeFiles, MedsFiles, PersonFile
from features.errors import InputError
from features.stage import file_sha256

PERSON, TIME, AT = "user_id", "timestamp", "at"
BIRTH_CODE = "MEDS_BIRTH"
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeTables:
    """Canonical tables of persons. events: user_id, timestamp and fields.

    users: user_id and background. outcomes: user_id, at, labels. raw_files: name -> sha256.
    """

    events: pl.DataFrame
    users: pl.DataFrame | None = None
    outcomes: pl.DataFrame | None = None
    licence: str = ""
    citation: str = ""
    raw_files: dict[str, str] = field(default_factory=dict)


def load_files(config: LifeFiles) -> LifeTables:
    """Your own tables; raises InputError for anything that cannot be used."""
    hashes: dict[str, str] = {}
    events = _read_table(
        PersonFile(
            paths=config.paths,
            user_id=config.user_id,
            numbers=config.numbers,
            columns=config.categories,
        ),
        {TIME: config.timestamp},
        (config.unit, "data.paths", hashes),
    )
    users = outcomes = None
    if config.persons:
        users = _read_table(config.persons, {}, (config.unit, "data.persons.paths", hashes))
    if config.outcomes:
        asked = (config.unit, "data.outcomes.paths", hashes)
        outcomes = _read_table(config.outcomes, {AT: AT}, asked)
    return LifeTables(events=events, users=users, outcomes=outcomes, raw_files=hashes)


def _read_table(
    table: PersonFile, times: dict[str, str], about: tuple[str, str, dict[str, str]]
) -> pl.DataFrame:
    """Rows of all files. about: unit of times, the setting's name, and where hashes go."""
    unit, key, hashes = about
    times = times | {name: name for name in table.times}
    plain = (*table.numbers, *table.columns)
    wanted = {PERSON: table.user_id} | times | {name: name for name in plain}
    frames = []
    for piece in read_files(find_files(table.paths, key), wanted):
        frame = piece.frame
        for name in times:
            frame = to_time(frame, name, unit, piece.path)
        for name in table.numbers:
            frame = to_number(frame, name, piece.path)
        for name in table.columns:
            frame = to_text(frame, name, piece.path)
        frames.append(_with_ids(frame, f"{piece.path}"))
        hashes[str(piece.path)] = file_sha256(piece.path)
    return pl.concat(frames)


def _with_ids(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The ids as Int64 or String."""
    found = frame.schema[PERSON]
    if not (found.is_integer() or found in (pl.String, pl.Categorical)):
        raise InputError(f"{where} has ids of type {found}, expected whole numbers or texts")
    to = pl.Int64 if found.is_integer() else pl.String
    return frame.with_columns(pl.col(PERSON).cast(to))


def load_meds(config: MedsFiles) -> LifeTables:
    """MEDS shards; raises InputError where they are none."""
    paths = find_files(config.paths, "data.paths")
    names = {PERSON: "subject_id", TIME: "time", "code": "code", "value": "numeric_value"}
    hashes = {str(path): file_sha256(path) for path in paths}
    frames = [
        _with_ids(to_time(piece.frame, TIME, "iso", piece.path), f"{piece.path}")
        for piece in read_files(paths, names)
    ]
    rows = pl.concat(frames).with_columns(pl.col("code").cast(pl.String))
    static = rows.filter(pl.col(TIME).is_null())
    parts = pl.col("code").str.splitn("//", 2)
    static = static.with_columns(
        column=parts.struct[0].str.to_lowercase(), content=parts.struct[1].fill_null("yes")
    )
    births = (
        rows.filter(pl.col("code") == BIRTH_CODE).group_by(PERSON).agg(birth=pl.col(TIME).min())
    )
    users = rows.select(pl.col(PERSON).unique().sort()).join(births, on=PERSON, how="left")
    if not static.is_empty():
        wide = static.pivot(
            "column", index=PERSON, values="content", aggregate_function="first", sort_columns=True
        )
        users = users.join(wide, on=PERSON, how="left")
    events = rows.filter(pl.col(TIME).is_not_null() & (pl.col("code") != BIRTH_CODE))
    outcomes = _meds_labels(config, hashes) if config.labels else None
    return LifeTables(events=events, users=users, outcomes=outcomes, raw_files=hashes)


def _meds_labels(config: MedsFiles, hashes: dict[str, str]) -> pl.DataFrame:
    names = {PERSON: "subject_id", AT: "prediction_time", "label": "boolean_value"}
    frames = []
    for piece in read_files(find_files(config.labels, "data.labels"), names):
        frame = to_time(piece.frame, AT, "iso", piece.path)
        frames.append(_with_ids(to_number(frame, "label", piece.path), f"{piece.path}"))
        hashes[str(piece.path)] = file_sha256(piece.path)
    return pl.concat(frames)


def check_life(tables: LifeTables, where: str) -> None:
    """Raise InputError unless every event has a person and a plausible time, every case both."""
    earliest, latest = date(1500, 1, 1), date(2262, 1, 1)
    checked = {"events": (tables.events, TIME), "outcomes": (tables.outcomes, AT)}
    for name, (frame, moment) in checked.items():
        if frame is None:
            continue
        if frame.is_empty():
            raise InputError(f"{where}: {name} are empty")
        column = pl.col(moment)
        faults = {
            "have no user_id: drop them": pl.col(PERSON).is_null(),
            f"have no {moment}: drop them, or make them columns of the persons": column.is_null(),
            "lie outside 1500-2262: is the unit right?": ~column.is_between(earliest, latest),
        }
        for sentence, fault in faults.items():
            found = frame.with_row_index("row", offset=1).filter(fault)
            if len(found):
                rows = [str(row) for row in found["row"].head(SHOWN).to_list()]
                raise InputError(
                    f"{where}: {len(found)} of {len(frame)} rows of {name} {sentence} "
                    f"(first: row {', '.join(rows)})"
                )
    if tables.users is not None and tables.users[PERSON].is_duplicated().any():
        twice = tables.users.filter(pl.col(PERSON).is_duplicated())[PERSON]
        raise InputError(
            f"{where}: {twice.n_unique()} persons have several rows (first {twice[0]}): keep one"
        )
