"""A log in parts: bad rows, kills, full disks, and memory that does not grow with the log."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import LogFiles
from features.build import build_dataset
from features.config import FeatureConfig
from features.errors import InputError
from features.parts import part_of
from features.stage import partial_path, read_manifest

CODE = """
import resource, sys
from pathlib import Path
from data.build import build_events
from data.config import LogFiles
from features.build import build_dataset
from features.config import FeatureConfig
stage, source, out, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
print("ready", flush=True)
if stage == "events":
    build_events(LogFiles(paths=(source,), parts=16), Path(out))
else:
    build_dataset(Path(source), FeatureConfig(), Path(out))
"""


def log_of(folder: Path, *, files: int = 12, rows: int = 20_000) -> str:
    """CSV files, in order of time; returns the glob."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(files):
        pl.DataFrame(
            {
                "user_id": rng.integers(0, 3_000, rows),
                "item_id": rng.integers(0, 500, rows),
                "timestamp": 1_700_000_000 + number * rows + np.arange(rows),
            }
        ).write_csv(folder / f"log-{number:03d}.csv")
    return str(folder / "log-*.csv")


def run(stage: str, source: object, out: Path, limit: int = 0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CODE, stage, str(source), str(out), str(limit)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def killed_after(stage: str, source: object, out: Path, pieces: int) -> Iterator[None]:
    """Killed as soon as the journal of a run names so many finished pieces."""
    journal = partial_path(out) / "scratch/journal.jsonl"
    with run(stage, source, out) as process:
        while process.poll() is None:
            if journal.exists() and journal.read_text().count("\n") >= pieces:
                break
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    yield


def files(path: Path, kind: str) -> dict[str, str]:
    return dict(read_manifest(path, kind).files)


def test_a_bad_row_in_file_37_of_100_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    source = log_of(tmp_path / "log", files=100, rows=30)
    bad = tmp_path / "log/log-036.csv"
    lines = bad.read_text().splitlines()
    lines[17] = "5,7,yesterday"
    lines[20] = ",7,1700001099"
    lines[25] = "5,7"
    bad.write_text("\n".join(lines) + "\n")
    for parts in (0, 4):
        config = LogFiles(paths=(source,), parts=parts)
        with pytest.raises(InputError, match=r"log-036\.csv"):
            build_events(config, tmp_path / "x")
        lines[25] = "5,7,1700001100"
        (tmp_path / "log/log-036.csv").write_text("\n".join(lines) + "\n")
        with pytest.raises(
            InputError,
            match=r"log-036\.csv: 1 of 30 rows have a timestamp that is not a number of s since "
            r"1970 \(first: row 17, 'yesterday'\)",
        ):
            build_events(config, tmp_path / "x")
        assert not (tmp_path / "x").exists()
        lines[25] = "5,7"
        bad.write_text("\n".join(lines) + "\n")
        out = tmp_path / f"events-{parts}"
        build_events(replace(config, on_error="skip"), out)
        rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
        found = [(Path(r["file"]).name, r["row"], r["column"], r["value"]) for r in rejected]
        assert sorted(found, key=lambda row: row[1]) == [
            ("log-036.csv", 17, "timestamp", "yesterday"),
            ("log-036.csv", 20, "user_id", None),
            ("log-036.csv", 25, "timestamp", None),
        ]
        names = [n for n in files(out, "events") if n.endswith(".parquet")]
        assert sum(len(pl.read_parquet(out / n)) for n in names) == 100 * 30 - 3


@pytest.mark.parametrize("stage", ["events", "dataset"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(stage: str, tmp_path: Path) -> None:
    source: Any = log_of(tmp_path / "log")
    expected = tmp_path / "events"
    build_events(LogFiles(paths=(source,), parts=16), expected)
    if stage == "dataset":
        source, expected = expected, tmp_path / "dataset"
        build_dataset(source, FeatureConfig(), expected)
    out = tmp_path / "killed"
    with killed_after(stage, source, out, pieces=5):
        kept = sorted((partial_path(out) / "scratch").iterdir())
    ages = {path: path.stat().st_mtime_ns for path in kept if path.suffix == ".arrow"}
    with killed_after(stage, source, out, pieces=9):
        same = [p for p, age in ages.items() if p.exists() and p.stat().st_mtime_ns == age]
    assert len(same) >= 5  # the first five pieces were not made again
    with run(stage, source, out) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert files(out, stage) == files(expected, stage)
    assert not partial_path(out).exists()


@pytest.mark.parametrize("stage", ["events", "dataset"])
def test_a_disk_that_takes_no_more_leaves_nothing(stage: str, tmp_path: Path) -> None:
    source: Any = log_of(tmp_path / "log", files=4)
    if stage == "dataset":
        build_events(LogFiles(paths=(source,), parts=16), tmp_path / "events")
        source = tmp_path / "events"
    out = tmp_path / "full"
    with run(stage, source, out, limit=60_000) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "File too large" in errors
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"log", "events"}


def test_another_config_or_a_changed_file_does_not_continue(tmp_path: Path) -> None:
    source = log_of(tmp_path / "log")
    out = tmp_path / "killed"
    with killed_after("events", source, out, pieces=5):
        pass
    with (tmp_path / "log/log-000.csv").open("a") as changed:
        changed.write("1,1,1700000000\n")
    with pytest.raises(InputError, match="are older than the same user's row"):
        build_events(LogFiles(paths=(source,), parts=16), out)
    config = LogFiles(paths=(source,), parts=16, order="sort")
    build_events(config, out)
    assert read_manifest(out, "events").config["rows"] == 12 * 20_000 + 1


def test_the_part_of_a_user_never_changes() -> None:
    assert part_of(pl.Series([0, 1, 2, 10**12, -5]), 64).tolist() == [0, 37, 10, 47, 14]
    assert part_of(pl.Series(["a", "b", "ä", "a"]), 64).tolist() == [3, 57, 3, 3]
    many = part_of(pl.Series(range(100_000)), 16)
    assert np.bincount(many).std() < 0.02 * 100_000 / 16
