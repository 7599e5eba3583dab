"""A dataset small enough to train on in a test: everybody walks the same ring of items."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.layout import CUTS, EVENTS, ITEMS, USERS, DatasetSchema, ItemColumn
from features.stage import write_stage
from features.store import Dataset, write_table

NUM_ITEMS = 30


def write_dataset(out: Path, histories: list[list[int]], *, behaviours: int = 1) -> Dataset:
    """Leave-one-out over `histories`; event codes go round 1..behaviours, code 1 is the target."""
    ends = np.cumsum([len(row) for row in histories])
    starts = ends - [len(row) for row in histories]
    items = np.concatenate([np.array(row, np.int32) for row in histories])
    position = np.arange(len(items))
    names = tuple(f"behaviour-{code}" for code in range(1, behaviours + 1))
    schema = DatasetSchema(
        num_users=len(histories),
        num_items=NUM_ITEMS,
        num_warm_items=NUM_ITEMS,
        num_events=len(items),
        event_types=names,
        target_events=names[:1],
        cold_targets="keep",
        item_columns=(ItemColumn(name="colour", kind="category", size=4),),
        title_column="",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=0,
        split={"name": "leave-one-out"},
    )
    cuts = (starts, ends - 2, ends - 2, ends - 1, ends - 1, ends)
    with write_stage(out, kind="dataset", config={}, parent="") as directory:
        write_table(
            directory / EVENTS,
            {
                "item_id": items,
                "timestamp": position * 1_000_000,
                "event": (1 + position % behaviours).astype(np.uint8),
            },
        )
        write_table(directory / USERS, dict(zip(CUTS, cuts, strict=True)))
        write_table(directory / ITEMS, {"colour": (np.arange(NUM_ITEMS + 1) % 4).astype(np.int32)})
        schema.write(directory)
    return Dataset.open(out)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """`write_dataset` below the test's folder."""
    return lambda histories, **options: write_dataset(tmp_path / "dataset", histories, **options)


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty walks of 5 to 8 steps round the ring 1, 2, ..., 30, 1."""
    draw = np.random.default_rng(0)
    histories = [
        [int(1 + (first + i) % NUM_ITEMS) for i in range(draw.integers(5, 9))]
        for first in draw.integers(0, NUM_ITEMS, 40)
    ]
    return write_dataset(tmp_path_factory.mktemp("ring") / "dataset", histories)
