"""Every prefix a case, sessions split by time, and a part of the users: against loops."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.config import FeatureConfig, GlobalTime, SessionTime
from features.errors import InputError
from features.stage import write_stage
from features.store import Dataset

Build = Callable[..., Dataset]
BuildEvents = Callable[..., Path]
Random = Callable[..., pl.DataFrame]
Case = tuple[tuple[int, ...], int]
"""Raw items of the history, and the target."""


def cases_of(dataset: Dataset, split: str) -> list[Case]:
    ids = [0, *dataset.vocabulary("item").to_pylist()]
    cases = dataset.cases("test" if split == "test" else "validation")
    rows = zip(cases.starts.tolist(), cases.cuts.tolist(), cases.ends.tolist(), strict=True)
    found = []
    for start, cut, end in rows:
        assert end == cut + 1
        history = tuple(ids[item] for item in dataset.items[start:cut].tolist())
        found.append((history, ids[int(dataset.items[cut])]))
    return found


def sessions_of(log: pl.DataFrame, gap: timedelta) -> list[list[tuple]]:
    """Rows of each session: of one user, without a longer pause than `gap`."""
    sessions: list[list[tuple]] = []
    for rows in log.partition_by("user_id", maintain_order=True):
        last = None
        for row in rows.rows():
            if last is None or row[2] - last > gap:
                sessions.append([])
            sessions[-1].append(row)
            last = row[2]
    return sessions


@pytest.mark.parametrize("seed", range(3))
def test_sessions_by_time_equal_a_loop_over_the_log(
    seed: int, build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    log, gap = random_log(seed, users=12), timedelta(hours=30)
    split = SessionTime(validation_days=4, test_days=4, gap_minutes=30 * 60)
    dataset = build(
        build_events(log), split=split, target_events=("buy", "view"), duplicates="keep"
    )
    end = log["timestamp"].max() + timedelta(microseconds=1)
    test_from, validation_from = end - timedelta(days=4), end - timedelta(days=8)
    training, expected = [], {"validation": [], "test": []}
    for session in sessions_of(log, gap):
        begins = session[0][2]
        part = "test" if begins >= test_from else "validation"
        if begins < validation_from:
            training.append([row[1] for row in session if row[2] < validation_from])
            continue
        until = end if part == "test" else test_from
        kept = [row for row in session if row[2] < until]
        items = [row[1] for row in kept]
        expected[part] += [
            (tuple(items[:n]), items[n]) for n in range(1, len(kept)) if kept[n][3] != "cart"
        ]
    for part, cases in expected.items():
        assert sorted(cases_of(dataset, part)) == sorted(cases)
        assert cases, "the log is too small to test anything"
    histories, ids = dataset.training_histories(), [0, *dataset.vocabulary("item").to_pylist()]
    found = [
        [ids[item] for item in histories.items[start:end].tolist()]
        for start, end in zip(histories.starts, histories.ends, strict=True)
    ]
    assert sorted(found) == sorted(training)
    assert dataset.schema.split["cases"] == "prefixes"


def test_named_sessions_end_where_the_name_changes(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    log = random_log(0).with_columns(session_id=pl.col("user_id") + "-" + pl.col("event"))
    dataset = build(build_events(log), split=SessionTime(validation_days=4, test_days=4))
    runs = log.sort("user_id", maintain_order=True)["session_id"].rle_id().n_unique()
    assert dataset.schema.num_users == runs
    users = dataset.vocabulary("user").to_pylist()
    assert len(set(users)) == runs
    assert {"u0/1", "u0/2"} <= set(users)


@pytest.mark.parametrize("seed", range(2))
def test_prefixes_of_a_window_equal_a_loop_over_the_log(
    seed: int, build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    events = build_events(random_log(seed))
    whole = build(events, split=GlobalTime(), duplicates="keep")
    split = GlobalTime(cases="prefixes")
    dataset = build(events, name="prefixes", split=split, duplicates="keep")
    assert "cases" not in whole.schema.split  # fingerprints are those from before the choice
    ids = [0, *whole.vocabulary("item").to_pylist()]
    cases, expected = whole.cases("test"), []
    for start, cut, end in zip(cases.starts, cases.cuts, cases.ends, strict=True):
        items = [ids[item] for item in whole.items[start:end].tolist()]
        first = max(cut - start, 1)  # without any history there is no case
        expected += [(tuple(items[:n]), items[n]) for n in range(first, len(items))]
    assert cases_of(dataset, "test") == expected


def test_a_part_of_the_users_is_the_same_part_every_time(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    log = random_log(0)
    events = build_events(log)
    first, again = (build(events, name=name, users=7) for name in ("one", "two"))
    chosen = first.vocabulary("user").to_pylist()
    assert chosen == again.vocabulary("user").to_pylist()
    assert len(chosen) == 7
    assert len(first.items) == log.filter(pl.col("user_id").is_in(chosen)).n_unique()
    assert build(events, name="all", users=10_000).schema.num_users == log["user_id"].n_unique()


def test_what_a_log_in_parts_cannot_do_is_said(tmp_path: Path, random_log: Random) -> None:
    from features.build import build_dataset

    with write_stage(tmp_path / "e", kind="events", config={"parts": 2}, parent="") as directory:
        random_log(0).write_parquet(directory / "events.parquet")
    with pytest.raises(InputError, match="in parts"):
        build_dataset(tmp_path / "e", FeatureConfig(split=SessionTime()), tmp_path / "d")


@pytest.mark.parametrize("wrong", [{"test_days": 0}, {"gap_minutes": -1}])
def test_a_window_or_pause_of_no_length_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        SessionTime(**wrong)  # pyright: ignore[reportArgumentType]


def test_times_of_cases_never_fall_behind_their_histories(
    build_events: BuildEvents, build: Build, random_log: Random
) -> None:
    dataset = build(build_events(random_log(1)), split=SessionTime(validation_days=4, test_days=4))
    cases = dataset.cases("test")
    assert (dataset.timestamps[cases.cuts] >= dataset.timestamps[cases.cuts - 1]).all()
    assert (np.diff(cases.users) >= 0).all()
