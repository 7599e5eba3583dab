"""Parish registers of Skellefteå in the 19th century, from the R package eha.

Demographic Data Base, Umeå University. Two studies: children born 1850-1884, and the births of
married women. What happens after the moment of a case is in the outcomes only.
"""

from pathlib import Path

import polars as pl

from data.life import LifeTables
from data.public.study_files import YEAR_DAYS, study_folder, table_hashes

FOLDER = "skelleftea_life_courses"
LICENCE = "GPL-2 or later (R package eha)"
CITATION = "Demographic Data Base, CEDAR, Umeå University; Broström, Event History Analysis"
US = pl.Datetime("us")
FATAL_YEARS = 5.0
"""A child's death before this age is the outcome."""
NEXT_BIRTH_YEARS = 3.0


def read_children() -> LifeTables:
    """Families as persons, a case a birth; raises InputError when the file is not there."""
    return children_of(study_folder(FOLDER, "child"))


def read_births() -> LifeTables:
    """Women as persons, a case a birth; raises InputError when the file is not there."""
    return births_of(study_folder(FOLDER, "fert"))


def children_of(folder: Path) -> LifeTables:
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
        licence=LICENCE,
        citation=CITATION,
        raw_files=table_hashes(folder, "child"),
    )


def births_of(folder: Path) -> LifeTables:
    """A person is a married woman; its events are her marriage and her births.

    A case a birth, asked the day after it: is there another within three years? Where she is last
    seen before that, it is not known. The source gives years as whole numbers: a woman's first date
    is the middle of that year, the others follow by the intervals between births.
    """
    raw = pl.read_parquet(folder / "fert.parquet").with_columns(
        pl.col("id", "parity").cast(pl.Int64), pl.col("ses", "parish").cast(pl.String)
    )
    rows = raw.sort("id", "parity").with_columns(
        since=pl.col("prev_ivl").fill_null(0).cum_sum().over("id")
    )
    begins = pl.datetime(pl.col("year").first().over("id").cast(pl.Int32), 7, 1, time_unit="us")
    dated = rows.with_columns(begins=begins).with_columns(
        timestamp=_later(pl.col("begins"), pl.col("since")),
        birth=_later(pl.col("begins"), -pl.col("age").first().over("id") - 0.5),
    )
    named = dated.with_columns(user_id="id")
    events = named.select(
        "user_id",
        "timestamp",
        event=pl.when(pl.col("parity") == 0).then(pl.lit("marriage")).otherwise(pl.lit("birth")),
        interval="prev_ivl",
    )
    users = named.group_by("user_id", maintain_order=True).agg(
        pl.col("birth", "ses", "parish").first()
    )
    soon = (pl.col("event") == 1) & (pl.col("next_ivl") <= NEXT_BIRTH_YEARS)
    later = pl.col("next_ivl") > NEXT_BIRTH_YEARS
    outcomes = named.filter(pl.col("parity") > 0).select(
        "user_id",
        at=pl.col("timestamp") + pl.duration(days=1),
        birth_within_three_years=pl.when(soon).then(1.0).when(later).then(0.0),
    )
    return LifeTables(
        events=events,
        users=users,
        outcomes=outcomes.unique(["user_id", "at"], keep="last", maintain_order=True),
        licence=LICENCE,
        citation=CITATION,
        raw_files=table_hashes(folder, "fert"),
    )


def _later(moment: pl.Expr, years: pl.Expr) -> pl.Expr:
    return moment + pl.duration(days=(years * YEAR_DAYS).round())
