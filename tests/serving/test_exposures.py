"""What was shown is on disk whole, and events find the exposure they came from."""

import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import InputError
from features.schema import check_exposures
from serving.exposures import EXPOSURES, open_exposures, open_feedback, read_exposures
from serving.parquet_log import ParquetLog

START = datetime(2026, 1, 1)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def shown(request: str, at: float, user: str | None, *items: str) -> list[tuple[object, ...]]:
    return [
        (request, minutes(at), user, item, rank, 1.0, 1.0, 0.5, "model", "v1", [])
        for rank, item in enumerate(items, 1)
    ]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    exposures = open_exposures(tmp_path / "log")
    rows = shown("r1", 0, "ada", "a", "b") + shown("r2", 1, None, "c")
    exposures.record(rows)
    exposures.close()
    assert (exposures.written, exposures.dropped) == (3, 0)
    found = pl.concat(pl.read_parquet(path) for path in (tmp_path / "log").iterdir())
    assert found.schema == EXPOSURES
    assert found.rows() == rows
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0, "users' data is the owner's only"


def test_files_rotate_by_rows_and_by_time(tmp_path: Path) -> None:
    log = ParquetLog(tmp_path, "exposures", EXPOSURES, rows=10, seconds=0.05)
    log.record(shown("r1", 0, "ada", *map(str, range(10))))
    deadline = time.monotonic() + 5
    while log.written < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    log.record(shown("r2", 0, "ada", "a"))
    while log.written < 11 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(len(pl.read_parquet(path)) for path in tmp_path.iterdir()) == [1, 10]
    log.close()


def test_a_full_queue_drops_and_counts_instead_of_waiting(tmp_path: Path) -> None:
    log = ParquetLog(tmp_path, "exposures", EXPOSURES, rows=5, seconds=60)
    log._writing.acquire()  # the disk hangs
    started = time.monotonic()
    for _ in range(100):
        log.record(shown("r", 0, "ada", "a"))
    assert time.monotonic() - started < 0.5
    log._writing.release()
    log.close()
    assert log.dropped > 0
    assert log.written + log.dropped == 100


def test_a_lost_disk_is_counted_and_leaves_no_half_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ParquetLog(tmp_path / "gone", "exposures", EXPOSURES)
    (tmp_path / "gone").rmdir()
    log.record(shown("r", 0, "ada", "a"))
    log.close()
    assert (log.written, log.dropped) == (0, 1)
    assert "1 rows of exposures lost" in caplog.text


def test_old_files_are_removed_when_asked(tmp_path: Path) -> None:
    (tmp_path / "feedback-old.parquet").touch()
    log = ParquetLog(tmp_path, "exposures", EXPOSURES, seconds=0.01, keep_days=1e-6)
    log.record(shown("r", 0, "ada", "a"))
    deadline = time.monotonic() + 5
    while log.written == 0 or any(tmp_path.glob("exposures-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["feedback-old.parquet"]
    log.close()


KILLED = """
import os, sys, time
from pathlib import Path
from serving.parquet_log import ParquetLog
from serving.exposures import FEEDBACK
log = ParquetLog(Path(sys.argv[1]), "feedback", FEEDBACK, rows=20, seconds=0.002)
while True:
    log.record([("r", None, "ada", "a", "view")] * 7)
    print(log.written, flush=True)
    time.sleep(0.0005)
"""


def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = 0
        while written < 200:
            written = int(process.stdout.readline())
        process.kill()
    assert sum(len(pl.read_parquet(path)) for path in tmp_path.glob("*.parquet")) >= written


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """ada sees a twice, bob sees a once; events of all kinds come back."""
    exposures, feedback = open_exposures(tmp_path), open_feedback(tmp_path)
    exposures.record(shown("r1", 0, "ada", "a", "b"))
    exposures.record(shown("r2", 10, "ada", "a", "c") + shown("r3", 10, "bob", "a"))
    exposures.record(shown("r4", 20, None, "a"))
    exposures.close()
    feedback.record(
        [
            (None, minutes(5), "ada", "a", "click"),  # r1
            (None, minutes(12), "ada", "a", "click"),  # r2, the latest
            (None, minutes(13), "ada", "a", "buy"),  # r2 too
            (None, minutes(14), "ada", "a", "view"),  # worth nothing
            ("r1", minutes(15), "ada", "b", "click"),  # r1, as it says
            ("r4", minutes(25), None, "a", "click"),  # anonymous, but it says which
            ("r9", minutes(25), "ada", "a", "click"),  # of a request nobody logged
            (None, minutes(9), "bob", "a", "click"),  # before it was shown
            (None, minutes(2_000), "ada", "c", "click"),  # after the window
            (None, minutes(11), "ada", "zzz", "click"),  # never shown
        ]
    )
    feedback.close()
    return tmp_path


def test_rewards_by_hand(log: Path) -> None:
    found = read_exposures(log, {"click": 1.0, "buy": 10.0})
    rewards = {(row["request_id"], row["item_id"]): row["reward"] for row in found.to_dicts()}
    assert rewards == {
        ("r1", "a"): 1.0,
        ("r1", "b"): 1.0,
        ("r2", "a"): 11.0,
        ("r2", "c"): 0.0,
        ("r3", "a"): 0.0,
        ("r4", "a"): 1.0,
    }
    check_exposures(found, "the log")
    assert found.filter(request_id="r4")["user_id"].to_list() == ["anonymous:r4"]


def test_a_log_of_an_earlier_release_is_read(log: Path) -> None:
    """It did not tell the chance given the items above."""
    for path in log.glob("exposures-*.parquet"):
        pl.read_parquet(path).drop("given_above").write_parquet(path)
    found = read_exposures(log, {"click": 1.0, "buy": 10.0})
    assert found["given_above"].null_count() == len(found) == 6
    assert found["reward"].sum() == 14.0


def test_a_longer_window_reaches_further(log: Path) -> None:
    found = read_exposures(log, {"click": 1.0}, window=timedelta(days=2))
    assert found.filter(item_id="c")["reward"].item() == 1.0


def test_last_touch_equals_a_double_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    exposures, feedback = open_exposures(tmp_path), open_feedback(tmp_path)
    rows = [
        row
        for number in range(200)
        for row in shown(f"r{number}", float(number), str(rng.integers(5)), str(rng.integers(4)))
    ]
    events = [
        (None, minutes(number + 0.5), str(rng.integers(5)), str(rng.integers(4)), "click")
        for number in rng.integers(0, 220, 300)
    ]
    exposures.record(rows)
    feedback.record(events)
    exposures.close()
    feedback.close()
    window = timedelta(minutes=30)
    expected = dict.fromkeys((row[0] for row in rows), 0.0)
    for _, at, user, item, _ in events:
        before = [
            row for row in rows if row[2] == user and row[3] == item and at - window <= row[1] <= at
        ]
        if before:
            expected[max(before, key=lambda row: row[1])[0]] += 1.0
    found = read_exposures(tmp_path, {"click": 1.0}, window=window)
    assert dict(zip(found["request_id"], found["reward"], strict=True)) == expected


def test_an_empty_directory_is_a_question(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="switched on"):
        read_exposures(tmp_path, {"click": 1.0})
