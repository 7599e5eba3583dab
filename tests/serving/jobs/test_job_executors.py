"""Processes that die: nobody's part is lost, and a part that kills takes nobody with it."""

import importlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.batch import score
from serving.errors import BundleError
from serving.jobs.executors import Processes
from serving.jobs.journal import Failure, PartRecord
from serving.jobs.plan import Part, Question
from tests.serving.batch_jobs import write_four_each

POISON = """
import os, signal
from dataclasses import dataclass
from contextlib import contextmanager
from serving.jobs.worker import Job, Worker

class PoisonWorker(Worker):
    @contextmanager
    def shared(self):
        yield self.job

    def make(self, part):
        if part.number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if part.number == 5:
            raise ZeroDivisionError("a fault of ours")
        return super().make(part)

class PoisonJob(Job):
    def open(self):
        return PoisonWorker(super().open().recommender, self)
"""


@pytest.mark.timeout(300)
def test_a_part_that_kills_its_process_fails_alone(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poison_job.py").write_text(POISON)
    monkeypatch.syspath_prepend(tmp_path)
    poison_job = importlib.import_module("poison_job")
    write_four_each(tmp_path / "events.parquet", 80)
    job = poison_job.PoisonJob(bundle=toy.path, directory=tmp_path, question=Question(k=3))
    source = str(tmp_path / "events.parquet")
    parts = [Part(number, source, 10 * number, 10 * number + 10) for number in range(8)]
    outcomes = list(Processes(2)(job.open(), parts))
    failures = {one.part: one for one in outcomes if isinstance(one, Failure)}
    assert set(failures) == {3, 5}
    assert failures[3].attempts == 3
    assert "died" in failures[3].error
    assert "ZeroDivisionError: a fault of ours" in failures[5].error
    made = sorted(one.part for one in outcomes if isinstance(one, PartRecord))
    assert made == [0, 1, 2, 4, 6, 7]


def kill_children(stop: threading.Event, kills: list[int], wanted: int) -> None:
    """SIGKILL a random child now and then, until `wanted` have died."""
    draw = random.Random(0)
    while not stop.is_set() and len(kills) < wanted:
        time.sleep(draw.uniform(0.2, 1.2))
        children = multiprocessing.active_children()
        if children and (pid := draw.choice(children).pid):
            os.kill(pid, signal.SIGKILL)
            kills.append(pid)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_twenty_killed_workers_leave_one_row_a_user(toy: Any, tmp_path: Path) -> None:
    events = tmp_path / "events.parquet"
    write_four_each(events, 60_000)
    question = Question(k=5)
    score(toy.path, events, tmp_path / "calm", question=question, part_size=300)
    stop, kills = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_children, args=(stop, kills, 20))
    killer.start()
    score(
        toy.path, events, tmp_path / "killed", question=question, part_size=300,
        executor=Processes(2),
    )  # fmt: skip
    stop.set()
    killer.join()
    calm, killed = (
        pl.read_parquet(sorted((tmp_path / name).glob("part-*.parquet")))
        for name in ("calm", "killed")
    )
    assert len(kills) == 20, f"only {len(kills)} workers could be killed in time"
    assert killed["user_id"].to_list() == list(range(60_000))
    assert killed.equals(calm)
    assert not list((tmp_path / "killed").glob("*.tmp"))


def test_the_job_says_what_is_wrong_with_a_bundle_before_it_starts_processes(
    tmp_path: Path,
) -> None:
    with pytest.raises(BundleError, match="is not a directory: expected a bundle"):
        score(tmp_path / "none", tmp_path, tmp_path / "out", executor=Processes(2))
    assert sys.modules.get("ray") is None
