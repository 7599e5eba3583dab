"""PhysioNet/CinC Challenge 2012, set A: after 48 hours of intensive care, death in hospital?

Silva et al., CinC 2012. Scores (SAPS-I, SOFA), length of stay and survival are left out: they are
outcomes, or were computed with what came later.
"""

from pathlib import Path

import polars as pl

from data.life import LifeTables
from data.public.study_files import YEAR_DAYS, study_folder, table_hashes

FOLDER = "physionet2012_icu_set_a"


def read_stays() -> LifeTables:
    """A person a stay; raises InputError when the files are not there."""
    return stays_of(study_folder(FOLDER, "events", "persons"))


def stays_of(folder: Path) -> LifeTables:
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
        raw_files=table_hashes(folder, "events", "persons"),
    )
