"""A planted rule all the way from tables to a bundle: whoever has the code `bad` falls sick."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from features.life_build import build_lives
from features.life_config import GivenCases, LifeConfig, LifeField, OutcomeConfig
from features.stage import write_stage
from recsys.export.config import ExportConfig
from recsys.export.outcomes import export_outcomes
from recsys.training.config import TrainConfig
from recsys.training.life_config import LifeTraining
from recsys.training.run import train

LANDMARK = datetime(2020, 1, 1)
CODES = ["walk", "run", "swim", "read", "cook"]
SIZES = {"max_len": 64, "dim": 16, "feed_forward": 32, "num_blocks": 1, "window": 7, "features": 16}
LIFE = LifeConfig(
    fields=(LifeField(name="code"), LifeField(name="dose", kind="numeric", bins=4)),
    background=(LifeField(name="sex"),),
    birth="birth",
    outcomes=(
        OutcomeConfig(name="sick", kind="positive_unlabelled", unlabelled_share=0.01),
        OutcomeConfig(name="stage", kind="ordinal", classes=3),
    ),
    cohort=GivenCases(),
)
TRAIN = TrainConfig(
    batch_size=32,
    max_epochs=8,
    learning_rate=1e-2,
    clip_norm=1.0,
    life=LifeTraining(thinned=0.0, jittered=0.0),
)


def tables(num: int = 400) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    draw = np.random.default_rng(0)
    rows, people = [], []
    for person in range(num):
        count, sick = int(draw.integers(3, 9)), bool(draw.random() < 0.3)
        codes = draw.choice(CODES, count).tolist()
        if sick:
            codes[int(draw.integers(count))] = "bad"
        days = np.sort(draw.integers(-800, 0, count))
        rows += [
            (person, LANDMARK + timedelta(days=int(d)), code, float(draw.normal()))
            for d, code in zip(days, codes, strict=True)
        ]
        people.append((person, "fm"[person % 2], datetime(1960, 1, 1), sick))
    events = pl.DataFrame(rows, ["user_id", "timestamp", "code", "dose"], orient="row")
    persons = pl.DataFrame(people, ["user_id", "sex", "birth", "sick"], orient="row")
    outcomes = persons.select(
        "user_id",
        pl.lit(LANDMARK).cast(pl.Datetime("us")).alias("at"),
        pl.col("sick").cast(pl.Float32),
        stage=pl.col("sick").cast(pl.Float32) + (pl.col("sex") == "m").cast(pl.Float32),
    )
    return events, persons.drop("sick"), outcomes


@dataclass(frozen=True, slots=True)
class Vertical:
    """events/, lives/, run/ and bundle/ below `folder`, and what made them."""

    folder: Path
    tables: Callable[..., tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]
    sizes: dict[str, Any]
    training: TrainConfig

    @property
    def lives(self) -> Path:
        return self.folder / "lives"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"


@pytest.fixture(scope="session")
def vertical(tmp_path_factory: pytest.TempPathFactory) -> Vertical:
    """Every stage runs for real, small."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("outcomes")
    events, persons, outcomes = tables()
    with write_stage(root / "events", kind="events", config={}, parent="") as directory:
        events.write_parquet(directory / "events.parquet")
        persons.write_parquet(directory / "users.parquet")
        outcomes.write_parquet(directory / "outcomes.parquet")
    build_lives(root / "events", LIFE, root / "lives")
    train("life_events", SIZES, TRAIN, root / "lives", root / "run")
    settings = ExportConfig(golden_requests=3)
    export_outcomes(root / "run", root / "lives", settings, root / "bundle")
    return Vertical(root, tables, SIZES, TRAIN)
