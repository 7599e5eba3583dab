"""Public studies of persons and outcomes, read from Parquet below RECSYS_DATA.

physionet2012-icu     PhysioNet/CinC Challenge 2012, set A (Silva et al., CinC 2012): 48 hours of
                      intensive care; does the patient die in hospital?
danish-diabetes       Danish National Diabetes Register, a sample of 10,000 (Carstensen et al.,
                      Diabetologia 2008), as published in the R package Epi
skelleftea-children   children born in Skellefteå 1850-1884 (Demographic Data Base, Umeå), as
                      published in the R package eha: families as persons, a case a birth

What a reader must not give a model is left out here: scores and lengths of stay, the end of
follow-up (a column `exit` for censoring, never an event), ages above 90 that betray survivors.
"""

import os
from pathlib import Path

import polars as pl

from data.life import LifeTables
from data.life_config import LifeStudy
from features.errors import InputError
from features.stage import file_sha256

US = pl.Datetime("us")
YEAR_DAYS = 365.25
FATAL_YEARS = 5.0
"""A child's death before this age is the outcome."""


def load_study(config: LifeStudy) -> LifeTables:
    """The tables of a study; raises InputError when its folder is not there."""
    match config.source:
        case "physionet2012-icu":
            return _physionet(_folder("physionet2012_icu_set_a", "events", "persons"))
        case "danish-diabetes":
            return _diabetes(_folder("danish_diabetes_register", "events", "persons"))
        case "skelleftea-children":
            return _children(_folder("skelleftea_life_courses", "child"))


def _folder(name: str, *tables: str) -> Path:
    root = os.environ.get("RECSYS_DATA", "")
    folder = Path(root) / name
    missing = [table for table in tables if not (folder / f"{table}.parquet").is_file()]
    if not root or missing:
        raise InputError(
            f"{folder if root else name} is not there: set RECSYS_DATA to the folder that holds "
            f"{name}/ with {', '.join(f'{table}.parquet' for table in tables)}"
        )
    return folder


def _hashes(folder: Path, *tables: str) -> dict[str, str]:
    names = [f"{table}.parquet" for table in tables]
    return {f"{folder.name}/{name}": file_sha256(folder / name) for name in names}


def _physionet(folder: Path) -> LifeTables:
    """Admission is 2000-01-01 00:00 for everybody: the study gives minutes since then."""
    start = pl.datetime(2000, 1, 1, time_unit="us")
    events = pl.read_parquet(folder / "events.parquet").select(
        pl.col("record_id").cast(pl.Int64).alias("user_id"),
        (start + pl.duration(minutes=pl.col("minute"))).alias("timestamp"),
        pl.col("parameter"),
        pl.col("value").cast(pl.Float64),
    )
    persons = pl.read_parquet(folder / "persons.parquet")
    users = persons.select(
        pl.col("record_id").alias("user_id"),
        "age",
        "gender",
        "height_cm",
        "weight_kg",
        birth=start - pl.duration(days=(pl.col("age") * YEAR_DAYS)),
    )
    outcomes = persons.select(
        pl.col("record_id").alias("user_id"),
        at=start + pl.duration(minutes=48 * 60 + 1),
        in_hospital_death=pl.col("in_hospital_death").cast(pl.Float32),
    )
    return LifeTables(
        events=events,
        users=users,
        outcomes=outcomes,
        licence="Open Data Commons Attribution License v1.0",
        citation="Silva et al., Predicting In-Hospital Mortality of ICU Patients, CinC 2012",
        raw_files=_hashes(folder, "events", "persons"),
    )


def _diabetes(folder: Path) -> LifeTables:
    """Diagnosis, first oral drug, first insulin and death are events; birth and exit are not."""
    events = pl.read_parquet(folder / "events.parquet")
    day = pl.datetime(1970, 1, 1, time_unit="us") + pl.duration(days=pl.col("day_since_1970"))
    dated = events.select(
        pl.col("person_id").cast(pl.Int64).alias("user_id"), day.alias("timestamp"), "event"
    )
    users = pl.read_parquet(folder / "persons.parquet").select(
        pl.col("person_id").cast(pl.Int64).alias("user_id"), pl.col("sex").cast(pl.String)
    )
    for name in ("birth", "exit"):
        mark = dated.filter(pl.col("event") == name)
        mark = mark.select("user_id", pl.col("timestamp").alias(name))
        users = users.join(mark, on="user_id", how="left")
    return LifeTables(
        events=dated.filter(pl.col("event").is_in(["diagnosis", "oad", "insulin", "death"])),
        users=users,
        licence="GPL-2 (R package Epi)",
        citation="Carstensen, Kristensen, Ottosen & Borch-Johnsen, Diabetologia 51 (2008)",
        raw_files=_hashes(folder, "events", "persons"),
    )


def _children(folder: Path) -> LifeTables:
    """A person is a mother's family; its events are births and deaths of her children.

    A case a birth, asked the day after it: does this child die before its fifth birthday? Children
    that die on the first day or leave the parish before they are five give no label.
    """
    raw = pl.read_parquet(folder / "child.parquet").with_columns(
        pl.col("birthdate").cast(US), pl.col("m_id").cast(pl.Int64)
    )
    child = raw.filter(pl.col("m_id").is_not_null())
    dates = pl.col("birthdate")
    left = dates + pl.duration(days=pl.col("exit") * YEAR_DAYS)
    about = child.select(
        "sex", "event", "exit", "m_age", user_id="m_id", branch="socBranch", illegitimate="illeg",
        born=dates, left=left,
    ).with_columns(pl.col("sex", "branch", "illegitimate").cast(pl.String))  # fmt: skip
    kept = ("user_id", "timestamp", "event", "sex", "branch", "illegitimate")
    births = about.select(
        *kept[:1], pl.col("born").alias(kept[1]), pl.lit("birth").alias(kept[2]), *kept[3:],
        mother_age="m_age",
    )  # fmt: skip
    gone = about.with_columns(timestamp=pl.col("left"))
    deaths = gone.filter(pl.col("event") == 1).with_columns(
        event=pl.lit("death"), age_at_death="exit"
    )
    leaves = gone.filter((pl.col("event") == 0) & (pl.col("exit") < 14.9)).with_columns(
        event=pl.lit("moved")
    )
    parts = [births, deaths.select(*kept, "age_at_death"), leaves.select(kept)]
    dies = (pl.col("event") == 1) & (pl.col("exit") < FATAL_YEARS)
    outlives = pl.col("exit") >= FATAL_YEARS
    outcomes = child.filter(pl.col("exit") > 1.5 / YEAR_DAYS).select(
        user_id="m_id",
        at=dates + pl.duration(days=1),
        dies_before_five=pl.when(dies).then(1.0).when(outlives).then(0.0),
    )
    return LifeTables(
        events=pl.concat(parts, how="diagonal"),
        outcomes=outcomes.unique(["user_id", "at"], keep="first", maintain_order=True),
        licence="GPL-2 or later (R package eha)",
        citation="Demographic Data Base, CEDAR, Umeå University; Broström, Event History Analysis",
        raw_files=_hashes(folder, "child"),
    )
