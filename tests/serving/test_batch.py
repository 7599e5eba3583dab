"""Batch scoring: the same answers as single requests, and nothing lost or changed by a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.errors import InputError
from features.stage import partial_path, read_manifest, verify_files
from serving.batch import QUARANTINE, REPORT, SUCCESS, Checks
from serving.errors import RequestError
from serving.jobs.executors import Outcome
from serving.jobs.journal import JOURNAL
from serving.jobs.plan import Part, What
from serving.jobs.quality import Limit
from serving.jobs.worker import Maker
from serving.recommender import Recommender
from tests.serving.batch_jobs import HERE, ask, write_events, write_shards

ROOT = Path(__file__).parents[2]


def contents(directory: Path) -> dict[str, bytes]:
    """What must not depend on when or how often a job was interrupted: all but its times."""
    timed = {REPORT, "manifest.json"}
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name not in timed}


@pytest.mark.parametrize("what", ["lists", "rows"])
def test_scores_are_those_of_single_requests(toy: Any, tmp_path: Path, what: What) -> None:
    frame = write_events(tmp_path / "events.parquet", 95)
    out = tmp_path / "scores"
    ask(toy.path, tmp_path / "events.parquet", out, k=6, part_size=20, what=what)
    assert sorted(path.name for path in out.glob("part-*")) == [
        f"part-0000{number}.parquet" for number in range(5)
    ]
    verify_files(out, read_manifest(out, "scores"))
    assert (out / SUCCESS).exists()
    scores = pl.read_parquet(out / "part-*.parquet")
    if what == "rows":
        scores = scores.group_by("user_id", maintain_order=True).agg(
            item_ids="item_id", sources="source"
        )
    recommender = Recommender.load(toy.path)
    assert scores["user_id"].to_list() == list(range(95))
    for mine in scores.rows(named=True):
        history = frame.filter(pl.col("user_id") == mine["user_id"])["item_id"].to_list()
        expected = recommender.recommend(history, k=6)
        assert mine["item_ids"] == [item.item_id for item in expected.items]
        assert mine["sources"] == [item.source for item in expected.items]
        if what == "lists":
            assert mine["degraded"] == ",".join(expected.degraded)
            assert mine["scores"] == pytest.approx([item.score for item in expected.items])


def test_a_bad_shard_is_set_aside_and_the_others_kept(toy: Any, tmp_path: Path) -> None:
    shards, out = tmp_path / "shards", tmp_path / "out"
    write_shards(shards, 4, 25)
    good = (shards / "shard-2.parquet").read_bytes()
    (shards / "shard-2.parquet").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"1 of 4 parts could not be made .*shard-2.parquet"):
        ask(toy.path, shards, out)
    partial = partial_path(out)
    (failure,) = map(json.loads, (partial / QUARANTINE).read_text().splitlines())
    assert failure["part"] == 2
    assert not out.exists()
    ask(toy.path, shards, out, checks=Checks(max_quarantined=1))
    assert pl.read_parquet(out / "part-*.parquet")["user_id"].n_unique() == 75
    assert json.loads((out / REPORT).read_text())["parts_kept_from_earlier"] == 3
    (shards / "shard-2.parquet").write_bytes(good)
    ask(toy.path, shards, tmp_path / "whole")
    assert pl.read_parquet(tmp_path / "whole" / "part-*.parquet")["user_id"].n_unique() == 100


def test_a_finished_job_is_not_done_again(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 40)
    ask(toy.path, events, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    ask(toy.path, events, out, executor=stop_after(0))
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(InputError, match="exists"):
        ask(toy.path, events, out, k=7)


def test_a_result_that_breaks_a_limit_is_not_published(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 60)
    strict = Checks(limits=(Limit.parse("coverage >= 1.1"), Limit.parse("empty_share<=0")))
    with pytest.raises(InputError, match=r"breaks 1 limit\(s\): coverage is .*at least 1.1"):
        ask(toy.path, events, out, checks=strict)
    assert not out.exists()
    ask(toy.path, events, out, executor=stop_after(0))  # publishes without making a part again
    assert (out / SUCCESS).exists()


def run_until_killed(bundle: Path, events: Path, out: Path, seconds: float | None) -> bool:
    """Score in a process of its own; True where it ended by itself."""
    code = (
        "import sys; from pathlib import Path; from serving.batch import score\n"
        "from serving.jobs.executors import local; from serving.jobs.plan import Question\n"
        "print('go', flush=True)\n"
        "score(*map(Path, sys.argv[1:4]), question=Question(k=5), part_size=25, executor=local(1))"
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
    ask(toy.path, events, tmp_path / "undisturbed", k=5, part_size=25)
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
    def run(worker: Maker, waiting: Sequence[Part]) -> Iterator[Outcome]:
        for number, outcome in enumerate(HERE(worker, waiting)):
            if number == parts:
                raise StoppedError
            yield outcome

    return run


def test_finished_parts_are_kept_unless_they_changed(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 100)
    ask(toy.path, events, tmp_path / "undisturbed", k=5, part_size=10)
    with pytest.raises(StoppedError):
        ask(toy.path, events, out, k=5, part_size=10, executor=stop_after(6))
    assert not out.exists()
    partial = partial_path(out)
    with (partial / JOURNAL).open("a") as journal:
        journal.write('{"part": 6, "us')  # the kill came in the middle of a line
    damaged = partial / "part-00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (partial / "part-00004.parquet").unlink()
    (partial / "part-00009.tmp").touch()
    made = []

    def watched(worker: Maker, waiting: Sequence[Part]) -> Iterator[Outcome]:
        made.extend(part.number for part in waiting)
        yield from HERE(worker, waiting)

    ask(toy.path, events, out, k=5, part_size=10, executor=watched)
    assert made == [2, 4, 6, 7, 8, 9]
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_another_question_does_not_continue_the_old_answer(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    write_events(events, 40)
    with pytest.raises(StoppedError):
        ask(toy.path, events, out, k=5, part_size=10, executor=stop_after(2))
    ask(toy.path, events, out, k=3, part_size=10)
    assert pl.read_parquet(out / "part-*.parquet")["item_ids"].list.len().max() == 3


def test_what_cannot_be_scored_is_refused_in_one_sentence(toy: Any, tmp_path: Path) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "scores"
    with pytest.raises(InputError, match="neither a dataset nor a Parquet"):
        ask(toy.path, tmp_path / "nothing.parquet", out)
    (tmp_path / "text.parquet").write_text("user_id,item_id\n1,10\n")
    with pytest.raises(InputError, match="neither a dataset nor a Parquet"):
        ask(toy.path, tmp_path / "text.parquet", out)
    frame = write_events(events, 5)
    frame.head(0).write_parquet(events)
    with pytest.raises(InputError, match="holds no users"):
        ask(toy.path, events, out)
    frame.drop("item_id").write_parquet(events)
    with pytest.raises(RequestError, match="lacks item_id"):
        ask(toy.path, events, out)
    frame.reverse().write_parquet(events)
    with pytest.raises(RequestError, match="not oldest first"):
        ask(toy.path, events, out)
    frame.write_parquet(events)
    out.mkdir()
    with pytest.raises(InputError, match="exists"):
        ask(toy.path, events, out)
