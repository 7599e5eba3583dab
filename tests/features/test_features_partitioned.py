"""A log built part by part against the same log built in memory, and datasets that grow."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import ItemFile, LogFiles
from features import item_statistics
from features.build import build_dataset
from features.config import FeatureConfig, LastDays, LastSession, LeaveOneOut
from features.covisits import DAY_BITS, ITEM_BITS
from features.errors import InputError
from features.growth import EVENT_FILES
from features.stage import read_manifest
from features.store import Dataset
from features.timeline import ItemTimeline

Make = Callable[..., pl.DataFrame]
KINDS: Any = {"title": "text", "colour": "category", "tags": "categories", "price": "numeric"}
COUNTED = ("num_users", "num_items", "num_warm_items", "num_events", "cutoff", "split")


def write_log(folder: Path, log: pl.DataFrame, files: int) -> None:
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(log)), files)):
        log[rows].write_parquet(folder / f"day-{number:03d}.parquet")


def events_of(folder: Path, parts: int, out: str, *, base: Path | None = None) -> Path:
    config = LogFiles(
        paths=(str(folder / "day-*.parquet"),),
        parts=parts,
        items=ItemFile(paths=(str(folder / "items.parquet"),), columns=KINDS),
    )
    build_events(config, folder.parent / out, base)
    return folder.parent / out


@pytest.fixture
def folder(tmp_path: Path, random_log: Make, random_items: Make) -> Path:
    write_log(tmp_path / "log", random_log(1, events=900), 5)
    random_items(1).write_parquet(tmp_path / "log/items.parquet")
    return tmp_path / "log"


def build(events: Path, name: str, /, *, base: Path | None = None, **config: Any) -> Dataset:
    build_dataset(events, FeatureConfig(**config), events.parent / name, base)
    return Dataset.open(events.parent / name, verify=True)


def told_by_user(dataset: Dataset) -> dict[str, list]:
    """Everything of a user in raw ids: events and cut points from the user's start."""
    items = dataset.vocabulary("item").take(dataset.items - 1).to_pylist()
    starts, ends = dataset.cuts["start"], dataset.cuts["test_end"]
    return {
        user: [
            list(
                zip(
                    items[start:end],
                    dataset.timestamps[start:end].tolist(),
                    [dataset.schema.event_types[code - 1] for code in dataset.events[start:end]],
                    strict=True,
                )
            ),
            [int(dataset.cuts[name][row] - start) for name in dataset.cuts],
        ]
        for row, (user, start, end) in enumerate(
            zip(dataset.vocabulary("user").to_pylist(), starts, ends, strict=True)
        )
    }


def told_of_items(dataset: Dataset) -> set[tuple]:
    """All rows of the timelines and of the co-visits, in raw ids."""
    names = [None, *dataset.vocabulary("item").to_pylist()]
    known = ItemTimeline.open(dataset.path)
    rows = set()
    for code, one in enumerate((known, *known.behaviours)):
        for key, total, first_day in zip(one.key, one.total, one.first_day, strict=True):
            rows.add(
                (code, names[int(key) >> 32], int(key) & 0xFFFFFFFF, int(total), int(first_day))
            )
    if known.covisits is not None:
        mask = (1 << ITEM_BITS) - 1
        for key, total in zip(known.covisits.key.tolist(), known.covisits.total, strict=True):
            first, then = key >> (ITEM_BITS + DAY_BITS), key >> DAY_BITS & mask
            day = key & ((1 << DAY_BITS) - 1)
            rows.add(("pair", names[first], names[then], day, int(total)))
    return rows


CONFIGS: dict[str, dict[str, Any]] = {
    "by share of time": {},
    "by days": {
        "split": LastDays(validation_days=3, test_days=4),
        "buckets": 3,
        "covisit_reach": 2,
    },
    "leave one out": {"split": LeaveOneOut(), "target_events": ("buy",), "covisit_reach": 1},
    "by session": {"split": LastSession(gap_minutes=600), "duplicates": "consecutive"},
    "the core": {"min_user_events": 14, "min_item_events": 11, "events": ("cart", "view")},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_log_in_parts_gives_what_memory_gives(name: str, folder: Path) -> None:
    whole = build(events_of(folder, 0, "events"), "whole", **CONFIGS[name])
    parts = build(events_of(folder, 7, "events-7"), "parts", **CONFIGS[name])
    for field in COUNTED:
        assert getattr(parts.schema, field) == getattr(whole.schema, field), field
    assert told_by_user(parts) == told_by_user(whole)
    warm = [
        set(d.vocabulary("item").to_pylist()[: d.schema.num_warm_items]) for d in (whole, parts)
    ]
    assert warm[0] == warm[1]
    columns = [
        {c.name: (c.kind, c.size, c.edges) for c in d.schema.item_columns} for d in (whole, parts)
    ]
    assert columns[0] == columns[1]
    assert told_of_items(parts) == told_of_items(whole)


def test_what_a_part_is_does_not_depend_on_how_the_log_is_cut_into_files(
    tmp_path: Path, random_log: Make, random_items: Make
) -> None:
    told = []
    for files in (1, 4):
        write_log(tmp_path / f"log-{files}", random_log(2), files)
        random_items(2).write_parquet(tmp_path / f"log-{files}/items.parquet")
        events = events_of(tmp_path / f"log-{files}", 3, f"events-{files}")
        dataset = build(events, f"dataset-{files}")
        told.append({n: h for n, h in dataset.manifest.files.items() if n != "catalogue.parquet"})
    assert told[0] == told[1]


def grow(folder: Path, random_log: Make) -> tuple[Dataset, Dataset, Path]:
    """A dataset of all events but the last, and one that continues it with those of one user."""
    events = events_of(folder, 7, "events-old")
    old = build(events, "old", split=LastDays(validation_days=3, test_days=4))
    last = pl.read_parquet(folder / "day-004.parquet")["timestamp"].max()
    assert isinstance(last, datetime)
    more = pl.DataFrame(
        {
            "user_id": ["u3"] * 3,
            "item_id": [1000, 5000, 1001],
            "timestamp": pl.Series([last + timedelta(hours=20)] * 3, dtype=pl.Datetime("us")),
            "event": ["view", "view", "gift"],
        }
    )
    more.write_parquet(folder / "day-900.parquet")
    longer = events_of(folder, 7, "events-new", base=events)
    config: dict[str, Any] = {"split": LastDays(validation_days=3, test_days=4)}
    return old, build(longer, "new", base=old.path, **config), longer


def test_a_day_more_shares_what_is_unchanged_and_keeps_the_ids(
    folder: Path, random_log: Make
) -> None:
    old, new, events = grow(folder, random_log)
    before, after = old.vocabulary("item").to_pylist(), new.vocabulary("item").to_pylist()
    assert after[: len(before)] == before
    assert after[len(before) :] == [5000]
    assert new.schema.event_types == (*old.schema.event_types, "gift")
    same, other = 0, 0
    for name in old.manifest.files:
        if name.startswith("parts/"):
            linked = (old.path / name).samefile(new.path / name)
            same, other = same + linked, other + (not linked)
    assert (same, other) == (12, 2)  # the events and the users of one part of seven are new
    first = [n for n in read_manifest(events, "events").files if n.endswith(".0.parquet")]
    assert all((events / n).samefile(events.parent / "events-old" / n) for n in first)
    added = [n for n in read_manifest(events, "events").files if n.endswith(".1.parquet")]
    assert len(added) == 1
    fresh = build(events, "fresh", split=LastDays(validation_days=3, test_days=4))
    assert told_by_user(new) == told_by_user(fresh)
    assert new.schema.grown
    assert not fresh.schema.grown


def test_fitted_values_keep_their_codes(folder: Path, random_log: Make) -> None:
    old, new, _ = grow(folder, random_log)
    for name in ("colour", "tags"):
        known = old.vocabulary(name).to_pylist()
        assert new.vocabulary(name).to_pylist()[: len(known)] == known
    rows = slice(1, old.schema.num_warm_items + 1)
    for name in ("title", "colour", "tags", "price"):
        np.testing.assert_array_equal(old.item_table[name][rows], new.item_table[name][rows])
    assert old.manifest.files["tokenizer.json"] == new.manifest.files["tokenizer.json"]


def test_a_base_that_does_not_fit_is_refused(folder: Path, random_log: Make) -> None:
    old, _, events = grow(folder, random_log)
    with pytest.raises(InputError, match="duplicates is 'first', and 'exact' in"):
        build(events, "x", base=old.path, duplicates="first")
    with pytest.raises(InputError, match="min_item_events=2 depends on every event"):
        build(events, "x", base=old.path, min_item_events=2)
    whole = build(events_of(folder, 0, "events"), "whole")
    with pytest.raises(InputError, match="was not made of a log in parts"):
        build(events, "x", base=whole.path)
    with pytest.raises(InputError, match="has 7 parts, the config says 3"):
        events_of(folder, 3, "x", base=events)
    with pytest.raises(InputError, match="names no file that the base lacks"):
        events_of(folder, 7, "x", base=events)
    assert EVENT_FILES in old.manifest.config


def test_popular_items_are_merged_a_few_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(events_of(folder, 0, "events"), "whole", covisit_reach=2)
    events, held = events_of(folder, 5, "events-5"), []
    merged = item_statistics.merged_pairs

    def watched(slices: list) -> dict:
        held.append((sum(len(keys) for keys, _ in slices), len({k >> 40 for k in slices[0][0]})))
        return merged(slices)

    monkeypatch.setattr(item_statistics, "merged_pairs", watched)
    monkeypatch.setattr(item_statistics, "TIMELINE_ROWS", 200)
    parts = build(events, "parts", covisit_reach=2)
    assert told_of_items(parts) == told_of_items(whole)
    assert len(held) > 5
    assert all(rows <= 200 or items <= 1 for rows, items in held)
