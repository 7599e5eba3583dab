"""Danish National Diabetes Register, a sample of 10,000 persons, from the R package Epi.

Carstensen, Kristensen, Ottosen & Borch-Johnsen, Diabetologia 2008. The end of follow-up becomes a
column `exit` of the persons, for censoring; it is never an event: for the dead it is the death.
"""

from pathlib import Path

import polars as pl

from data.life import LifeTables
from data.public.study_files import study_folder, table_hashes

FOLDER = "danish_diabetes_register"


def read_register() -> LifeTables:
    """A person a patient; raises InputError when the files are not there."""
    return register_of(study_folder(FOLDER, "events", "persons"))


def register_of(folder: Path) -> LifeTables:
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
        raw_files=table_hashes(folder, "events", "persons"),
    )
