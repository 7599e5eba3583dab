"""A disk that takes no more: the job stops, keeps what is whole, and goes on where it stopped."""

import errno
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.errors import InputError
from features.stage import partial_path
from serving.jobs.executors import Processes
from serving.jobs.worker import write_whole
from tests.serving.batch_jobs import HERE, ask, write_events


def test_polars_words_become_the_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "part.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "part.parquet", pl.DataFrame({"a": range(9)}).write_parquet)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("executor", [HERE, Processes(2)], ids=["here", "processes"])
def test_a_full_disk_stops_the_job_and_loses_nothing(
    executor: Any, toy: Any, tmp_path: Path
) -> None:
    events = write_events(tmp_path / "events.parquet", 60)
    out = tmp_path / "out"
    hidden = partial_path(out)

    def full_from_the_fourth(worker: Any, parts: Any) -> Any:
        for part in parts[3:]:
            (hidden / part.file).with_suffix(".tmp").symlink_to("/dev/full")
        yield from executor(worker, parts)

    with pytest.raises(InputError, match=r"No space left.*parts are finished and kept"):
        ask(toy.path, tmp_path / "events.parquet", out, executor=full_from_the_fourth)
    assert not out.exists()
    whole = list(hidden.glob("part-*.parquet"))
    assert len(whole) <= 3
    assert executor is not HERE or len(whole) == 3
    ask(toy.path, tmp_path / "events.parquet", out, executor=executor)
    answers = pl.read_parquet(out / "part-*.parquet")
    assert answers["user_id"].to_list() == events["user_id"].unique().sort().to_list()
    assert not list(out.glob("*.tmp"))
    assert not (out / "quarantine.jsonl").exists()
