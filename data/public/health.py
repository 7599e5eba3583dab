"""Records of persons: PhysioNet 2012 (intensive care), and any MEDS table (MIMIC and the like).

A person is a user, what is measured or coded is an item, a measurement is an event.
"""

from pathlib import Path

import polars as pl

from data.public.formats import separated
from data.public.recipe import INVENTED_START, Layout, Recipe, Table, number, text, utc

_FIRST_ROWS = ("RecordID", "Age", "Gender", "Height", "ICUType", "Weight")


def _record(path: Path) -> pl.LazyFrame:
    """One set-a/<record>.txt: Time (HH:MM since admission), Parameter, Value."""
    lines = separated()(path)
    clock = pl.col("Time").str.split(":").list.eval(pl.element().cast(pl.Int64))
    return lines.filter(
        ~pl.col("Parameter").is_in(_FIRST_ROWS) | (pl.col("Time") != "00:00")
    ).select(
        record_id=pl.lit(int(path.stem)),
        minute=clock.list.get(0) * 60 + clock.list.get(1),
        parameter="Parameter",
        value=pl.col("Value").cast(pl.Float64),
    )


_MEASURED = {
    "user_id": number("record_id"),
    "item_id": text("parameter"),
    "timestamp": INVENTED_START + pl.duration(minutes=pl.col("minute").cast(pl.Int64)),
    "event": pl.lit("measurement"),
    "value": pl.col("value").cast(pl.Float64),
}

PHYSIONET_2012 = Recipe(
    layouts=(
        Layout(
            folder="physionet2012_icu_set_a",
            events=(Table(files=("events.parquet",), columns=_MEASURED),),
            users=Table(
                files=("persons.parquet",),
                columns={
                    "user_id": number("record_id"),
                    "age": pl.col("age"),
                    "gender": text("gender"),
                    "height_cm": pl.col("height_cm"),
                    "weight_kg": pl.col("weight_kg"),
                    "icu_type": text("icu_type"),
                },
            ),
        ),
        Layout(
            folder="physionet-2012",
            events=(Table(files=("set-a/*.txt",), read=_record, columns=_MEASURED),),
        ),
    ),
    licence="ODC Attribution 1.0 (PhysioNet)",
    citation=(
        "I. Silva, G. Moody, D. J. Scott, L. A. Celi and R. G. Mark. 2012. Predicting in-hospital "
        "mortality of ICU patients: the PhysioNet/CinC Challenge 2012. CinC 39"
    ),
    notes=(
        "Times are minutes since admission, counted from 2000-01-01. Outcomes (death, length of "
        "stay, scores) are no inputs and are left out here.",
    ),
)

MEDS = Recipe(
    layouts=(
        Layout(
            folder="meds",
            events=(
                Table(
                    files=("data/**/*.parquet",),
                    columns={
                        "user_id": number("subject_id"),
                        "item_id": text("code"),
                        "timestamp": utc("time"),
                        "event": pl.lit("code"),
                        "value": pl.col("numeric_value").cast(pl.Float64),
                    },
                ),
            ),
        ),
    ),
    licence="That of the data, for MIMIC the PhysioNet credentialed health data licence",
    citation="B. Arnrich et al. 2024. Medical Event Data Standard (MEDS). ICLR workshop TS4H",
    notes=("Static rows, which have no time, are left out.",),
)
