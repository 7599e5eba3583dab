"""Batch scoring: the same answers as single requests, and nothing lost or changed by a kill."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.errors import InputError
from features.stage import partial_path, read_manifest, verify_files
from serving.batch import JOURNAL, SUCCESS, score
from serving.errors import RequestError
from serving.recommender import Recommender

ROOT = Path(__file__).parents[2]


def write_events(path: Path, users: int, *, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, users)
    total = int(lengths.sum())
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), lengths),
            "item_id": rng.integers(1, 63, total) * 10,  # 610 and 620 are unknown
            "timestamp": np.arange(total),
        }
    )
    frame.write_parquet(path)
    return frame


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_scores_are_those_of_single_requests(toy: Any, tmp_path: Path) -> None:
    frame = write_events(tmp_path / "events.parquet", 95)
    score(toy.path, tmp_path / "events.parquet", tmp_path / "scores", k=6, part_size=20)
    out = tmp_path / "scores"
    assert sorted(path.name for path in out.glob("part-*")) == [
        f"part-0000{number}.parquet" for number in range(5)
    ]
    verify_files(out, read_manifest(out, "scores"))
    assert (out / SUCCESS).exists()
    scores = pl.read_parquet(out / "part-*.parquet")
    recommender = Recommender.load(toy.path)
    assert scores["user_id"].unique(maintain_order=True).to_list() == list(range(95))
    for (user,), mine in scores.group_by("user_id"):
        history = frame.filter(pl.col("user_id") == user)["item_id"].to_list()
        expected = recommender.recommend(history, k=6)
        assert mine["item_id"].to_list() == [item.item_id for item in expected.items]
        assert mine["source"].to_list() == [item.source for item in expected.items]


def run_until_killed(bundle: Path, events: Path, out: Path, seconds: float | None) -> bool:
    """Score in a process of its own; True where it ended by itself."""
    code = (
        "import sys; from pathlib import Path; from serving.batch import score\n"
        "print('go', flush=True)\n"
        "score(*map(Path, sys.argv[1:4]), k=5, part_size=25)"
    )
    command = [sys.executable, "-c", code, str(bundle), str(events), str(out)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    process.stdout.readline()
    if seconds is not None:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return process.wait() == 0


def check_kills(toy: Any, tmp_path: Path, kills: int) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 1_500)
    started = time.monotonic()
    score(toy.path, events, tmp_path / "undisturbed", k=5, part_size=25)
    duration = time.monotonic() - started
    draw = random.Random(0)
    interrupted = 0
    for _ in range(kills):
        ended = run_until_killed(toy.path, events, out, draw.uniform(0, duration))
        assert ended or not out.exists() or (out / SUCCESS).exists()
        interrupted += not ended
        if out.exists():
            assert contents(out) == contents(tmp_path / "undisturbed")
            for path in out.iterdir():
                path.unlink()
            out.rmdir()
    assert interrupted
    if not out.exists():
        assert run_until_killed(toy.path, events, out, None)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert not partial_path(out).exists()


def test_killed_scoring_continues_to_the_same_result(toy: Any, tmp_path: Path) -> None:
    check_kills(toy, tmp_path, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_ten_kills_at_random_moments(toy: Any, tmp_path: Path) -> None:
    check_kills(toy, tmp_path, kills=10)


class StoppedError(Exception):
    """Stands for a kill after some parts."""


def stop_after(parts: int) -> Any:
    def run(job: Any, worker: Any, waiting: Any) -> Any:
        for number, part in enumerate(waiting):
            if number == parts:
                raise StoppedError
            yield worker.make(part)

    return run


def test_finished_parts_are_kept_unless_they_changed(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 100)
    score(toy.path, events, tmp_path / "undisturbed", k=5, part_size=10)
    with pytest.raises(StoppedError):
        score(toy.path, events, out, k=5, part_size=10, executor=stop_after(6))
    assert not out.exists()
    partial = partial_path(out)
    with (partial / JOURNAL).open("a") as journal:
        journal.write('{"part": 6, "us')  # the kill came in the middle of a line
    damaged = partial / "part-00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (partial / "part-00004.parquet").unlink()
    (partial / "part-00009.tmp").touch()
    made = []

    def watched(job: Any, worker: Any, waiting: Any) -> Any:
        for part in waiting:
            made.append(part.number)
            yield worker.make(part)

    score(toy.path, events, out, k=5, part_size=10, executor=watched)
    assert made == [2, 4, 6, 7, 8, 9]
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_another_question_does_not_continue_the_old_answer(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 40)
    with pytest.raises(StoppedError):
        score(toy.path, events, out, k=5, part_size=10, executor=stop_after(2))
    score(toy.path, events, out, k=3, part_size=10)
    assert pl.read_parquet(out / "part-*.parquet")["rank"].max() == 3


def test_what_cannot_be_scored_is_refused_in_one_sentence(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    with pytest.raises(InputError, match="neither a dataset nor a Parquet"):
        score(toy.path, tmp_path / "nothing.parquet", out)
    (tmp_path / "text.parquet").write_text("user_id,item_id\n1,10\n")
    with pytest.raises(InputError, match="neither a dataset nor a Parquet"):
        score(toy.path, tmp_path / "text.parquet", out)
    frame = write_events(events, 5)
    frame.head(0).write_parquet(events)
    with pytest.raises(InputError, match="holds no users"):
        score(toy.path, events, out)
    frame.drop("item_id").write_parquet(events)
    with pytest.raises(RequestError, match="lacks item_id"):
        score(toy.path, events, out)
    frame.reverse().write_parquet(events)
    with pytest.raises(RequestError, match="not oldest first"):
        score(toy.path, events, out)
    frame.write_parquet(events)
    out.mkdir()
    with pytest.raises(InputError, match="exists"):
        score(toy.path, events, out)
