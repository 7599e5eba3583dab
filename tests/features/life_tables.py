"""A made-up register, written as an `events` stage: what the tests of lives share."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.life_config import AtDate, LifeConfig, LifeField, OutcomeConfig
from features.stage import write_stage

LANDMARK = datetime(2016, 1, 1)


def register(num: int = 60, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events (code, amount, tags) of `num` persons around the landmark, and the persons."""
    draw = np.random.default_rng(seed)
    rows = []
    for person in range(num):
        for _ in range(int(draw.integers(3, 12))):
            day = int(draw.integers(-900, 700))
            rows.append(
                {
                    "user_id": f"p{person:03d}",
                    "timestamp": LANDMARK + timedelta(days=day, hours=int(draw.integers(0, 24))),
                    "code": str(draw.choice(["a", "b", "c"])),
                    "amount": float(draw.normal(100, 20)) if draw.random() < 0.8 else None,
                    "tags": [str(t) for t in draw.choice(["x", "y", "z"], 2)],
                }
            )
        rows.append(rows[-1] | {"timestamp": LANDMARK, "code": "future"})  # at the very midnight
    people = pl.DataFrame(
        {
            "user_id": [f"p{n:03d}" for n in range(num)],
            "sex": ["f" if n % 2 else "m" for n in range(num)],
            "birth": [datetime(1950, 1, 1) + timedelta(days=97 * n) for n in range(num)],
        }
    )
    return pl.DataFrame(rows).with_columns(pl.col("timestamp").cast(pl.Datetime("us"))), people


def config(**options: object) -> LifeConfig:
    """A landmark cohort over the register, two years to the outcome."""
    settings: dict[str, object] = {
        "fields": (
            LifeField(name="code"),
            LifeField(name="amount", kind="numeric", by="code", bins=4),
            LifeField(name="tags", kind="categories", width=2),
        ),
        "background": (LifeField(name="sex"),),
        "birth": "birth",
        "origin": date(2013, 1, 1),
        "cohort": AtDate(at=date(2016, 1, 1), window_days=600),
        "outcomes": (
            OutcomeConfig(name="again", rule="event", column="code", values=("c",)),
            OutcomeConfig(name="much", rule="count", kind="ordinal", thresholds=(1, 3)),
        ),
    }
    return LifeConfig(**(settings | options))  # type: ignore[arg-type]


def write_events(
    out: Path,
    events: pl.DataFrame,
    people: pl.DataFrame | None,
    outcomes: pl.DataFrame | None = None,
) -> Path:
    """An `events` stage of persons."""
    with write_stage(out, kind="events", config={}, parent="") as directory:
        events.write_parquet(directory / "events.parquet")
        if people is not None:
            people.write_parquet(directory / "users.parquet")
        if outcomes is not None:
            outcomes.write_parquet(directory / "outcomes.parquet")
    return out
