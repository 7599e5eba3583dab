"""Histories that are encoded once for all processes: the same answers, and nothing left behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.stage import partial_path
from serving.jobs.encoded import EVENTS, USERS, read_encoded
from serving.jobs.executors import Outcome, in_process
from serving.jobs.plan import Part, Question
from serving.jobs.worker import Job, Maker, Worker
from tests.serving.batch_jobs import ask, write_events


def as_if_elsewhere(worker: Maker, parts: Sequence[Part]) -> Iterator[Outcome]:
    """What a process of its own does, in this one: only what is on disk comes over."""
    with worker.shared() as job:
        assert isinstance(job, Job)
        assert job.encoded
        Path(job.encoded).unlink()  # nobody reads the source again
        yield from in_process(job.open(), parts)


@pytest.mark.parametrize("text_ids", [False, True])
def test_other_processes_answer_from_what_was_encoded(
    toy: Any, tmp_path: Path, text_ids: bool
) -> None:
    events = tmp_path / "events.parquet"
    frame = write_events(events, 60)
    if text_ids:
        frame = frame.with_columns(pl.format("user {}", "user_id").alias("user_id"))
        frame.write_parquet(events)
    ask(toy.path, events, tmp_path / "here", part_size=17)
    ask(toy.path, events, tmp_path / "elsewhere", part_size=17, executor=as_if_elsewhere)
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    for name in names:
        if name.startswith("part-"):
            mine, other = (tmp_path / one / name for one in ("here", "elsewhere"))
            assert mine.read_bytes() == other.read_bytes()


def test_contexts_keep_their_moments_and_users_without_history(toy: Any, tmp_path: Path) -> None:
    source = tmp_path / "contexts.parquet"
    rows = {"user_id": ["b", "a", "c"], "history": [[10, 20], [], [30, 9_990]], "at": [7, 8, 9]}
    pl.DataFrame(rows, schema_overrides={"history": pl.List(pl.Int64)}).write_parquet(source)
    worker = Job(bundle=toy.path, directory=tmp_path, question=Question()).open()
    before = worker.population(str(source))
    with worker.shared() as job:
        after = read_encoded(job.directory)
    assert after.users.equals(before.users)
    assert after.at.tolist() == [7, 8, 9]
    assert after.unknown.tolist() == [0, 0, 1]
    assert after.histories.lengths.tolist() == [2, 0, 1]
    assert after.histories.items.tolist() == before.histories.items.tolist()


class KilledError(Exception):
    """Stands for a kill."""


def test_what_a_killed_job_had_encoded_is_removed(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, out = tmp_path / "events.parquet", tmp_path / "out"
    write_events(events, 20)

    def killed(worker: Maker, parts: Sequence[Part]) -> Iterator[Outcome]:
        assert isinstance(worker, Worker)
        with worker.shared():
            monkeypatch.setattr("serving.jobs.worker.remove_encoded", lambda directory: None)
            raise KilledError
            yield

    with pytest.raises(KilledError):
        ask(toy.path, events, out, executor=killed)
    assert {USERS, EVENTS} <= {path.name for path in partial_path(out).iterdir()}
    ask(toy.path, events, out)
    assert not {USERS, EVENTS} & {path.name for path in out.iterdir()}
