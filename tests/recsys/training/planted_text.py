"""A made-up shop whose items' titles say what belongs together, and whose users stay with it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.stage import write_stage
from features.store import Dataset

CLUSTERS, ITEMS, NEW = 8, 12, 3
"""Clusters, items of each, and how many of those appear at the very end only."""
EVENTS = 8
"""Of each user: training, validation, test."""


def planted(
    root: Path, *, users: int = 160, seed: int = 0, retitled: int = 0, **features: Any
) -> Dataset:
    """A dataset below `root`. The last event of every other user is on one of the new items.

    retitled: as many items have another title than they would have.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        cluster = user % CLUSTERS
        known = draw.permutation(ITEMS - NEW)[:EVENTS]
        places = [*known.tolist(), ITEMS - 1 - int(draw.integers(NEW))]
        last = EVENTS if user % 2 else EVENTS - 1
        chosen = [*places[: EVENTS - 1], places[last]]
        rows += [(user, 1000 + cluster * ITEMS + place) for place in chosen]
    log = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(
        timestamp=(pl.int_range(pl.len()) * 1_000_000).cast(pl.Datetime("us")),
        event=pl.lit("buy"),
    )
    words = [[f"{a}{b}o" for b in "bdfgklmnprst"] for a in "bdfgklmn"]
    titles = [
        f"{own[draw.integers(3)]} {own[3 + draw.integers(3)]} no{draw.integers(9)}"
        for own in words
        for _ in range(ITEMS)
    ]
    titles[:retitled] = [f"{titles[-1 - row]} renewed" for row in range(retitled)]
    items = pl.DataFrame({"item_id": 1000 + np.arange(CLUSTERS * ITEMS), "title": titles})
    kinds = {"item_columns": {"title": "text"}, "title_column": "title"}
    root.mkdir(parents=True, exist_ok=True)
    with write_stage(root / "events", kind="events", config=kinds, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
        items.write_parquet(directory / "items.parquet")
    config = FeatureConfig(split=LeaveOneOut(), sentence=("title",), **features)
    build_dataset(root / "events", config, root / "dataset")
    return Dataset.open(root / "dataset")


def cluster_of(dataset: Dataset) -> np.ndarray:
    """Cluster of each dense item id, -1 for padding, (N + 1,)."""
    raw = dataset.vocabulary("item").to_numpy()
    return np.concatenate([[-1], (raw - 1000) // ITEMS])
