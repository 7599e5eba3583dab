"""A small random shop log, its events/ directory, and datasets made of it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig
from features.stage import write_stage
from features.store import Dataset

START = datetime(2024, 1, 1)
KINDS = {"title": "text", "colour": "category", "tags": "categories", "price": "numeric"}
WORDS = ["red", "blue", "shirt", "trousers", "wool", "linen", "summer", "winter"]


def make_log(seed: int, *, users: int = 30, items: int = 40, events: int = 500) -> pl.DataFrame:
    """Events in time order over all users, many at the same time; items and users keep coming."""
    rng = np.random.default_rng(seed)
    minutes = np.sort(rng.integers(0, 60 * 24 * 20, events)) // 30 * 30
    newest = np.arange(events) / events
    user = rng.integers(0, np.minimum(newest * users + 1, users))
    item = rng.integers(0, np.minimum(newest * items + 1, items))
    times = pl.Series(minutes).cast(pl.Int64) * 60_000_000
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": item + 1000,
            "timestamp": (times + int(START.timestamp()) * 1_000_000).cast(pl.Datetime("us")),
            "event": rng.choice(["view", "cart", "buy"], events, p=[0.6, 0.2, 0.2]),
        }
    )


def make_items(seed: int, *, items: int = 50) -> pl.DataFrame:
    """A row for most items, and for some that the log never names; all columns have nulls."""
    rng = np.random.default_rng(seed)
    titles = [" ".join(rng.choice(WORDS, 3)) + f" no{i}" for i in range(items)]
    tags = [rng.choice(WORDS, rng.integers(0, 4)).tolist() for _ in range(items)]
    rows = pl.DataFrame(
        {
            "item_id": np.arange(items) + 1000,
            "title": [None if i % 11 == 3 else title for i, title in enumerate(titles)],
            "colour": [None if i % 7 == 2 else WORDS[i % 5] + str(i // 38) for i in range(items)],
            "tags": [None if i % 9 == 4 else tag for i, tag in enumerate(tags)],
            "price": [None if i % 13 == 5 else float(i) for i in range(items)],
        }
    )
    return rows.filter(pl.col("item_id") % 17 != 0).sample(fraction=1, shuffle=True, seed=seed)


@pytest.fixture(scope="session")
def random_log() -> Callable[..., pl.DataFrame]:
    """`make_log`: test files cannot import from here."""
    return make_log


@pytest.fixture(scope="session")
def random_items() -> Callable[..., pl.DataFrame]:
    """`make_items`."""
    return make_items


@pytest.fixture
def build_events(tmp_path: Path) -> Callable[..., Path]:
    """Write a log, and items where given, as a stage of kind `events`."""

    def write(
        log: pl.DataFrame,
        items: pl.DataFrame | None = None,
        kinds: Mapping[str, str] = KINDS,
        name: str = "events",
    ) -> Path:
        described: dict[str, Any] = {"item_columns": {}, "title_column": ""}
        if items is not None:
            described = {"item_columns": dict(kinds), "title_column": next(iter(kinds), "")}
        out = tmp_path / name
        with write_stage(out, kind="events", config=described, parent="") as directory:
            log.write_parquet(directory / "events.parquet")
            if items is not None:
                items.write_parquet(directory / "items.parquet")
        return out

    return write


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Dataset]:
    """Build and open a dataset of an events/ directory."""

    def make(events: Path, /, name: str = "dataset", **config: Any) -> Dataset:
        build_dataset(events, FeatureConfig(**config), tmp_path / name)
        return Dataset.open(tmp_path / name, verify=True)

    return make
