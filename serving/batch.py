"""Top k for all users as Parquet parts: a plan of parts, an executor, and a journal.

    out/part-00000.parquet ...   user_id, rank, item_id, score, source
    out/plan.json                what was asked of which bundle and histories
    out/parts.jsonl              rows, users and sha256 of each part
    out/manifest.json, _SUCCESS  written last; then the hidden sibling is renamed to `out`

A part is written to a temporary name, synced, renamed, and only then entered in the journal. After
a kill the same call keeps the parts whose content is what the journal says and makes the others,
so that the result equals that of an undisturbed run.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from features.stage import (
    MANIFEST,
    file_sha256,
    lock,
    partial_path,
    publish,
    refuse_existing,
    sync,
    write_manifest,
)
from serving.population import HistoryPart, Population, open_population
from serving.recommender import Recommender

log = logging.getLogger(__name__)

PLAN, JOURNAL, SUCCESS = "plan.json", "parts.jsonl", "_SUCCESS"
KIND = "scores"
LOG_LINES = 10
"""Lines logged about the progress, about, where no terminal shows a bar."""


@dataclass(frozen=True, slots=True)
class Part:
    """Users [first, last) of the population, in one output file."""

    number: int
    first: int
    last: int

    @property
    def file(self) -> str:
        """Name of the output file."""
        return f"part-{self.number:05d}.parquet"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A finished part, as the journal has it."""

    part: int
    users: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job is; another plan does not continue it."""

    bundle: str
    """sha256 of the bundle's manifest."""
    source: str
    """sha256 of the histories."""
    history: HistoryPart
    users: int
    k: int
    part_size: int
    """Users a part."""

    def parts(self) -> list[Part]:
        """All parts, in order."""
        starts = range(0, self.users, self.part_size)
        return [
            Part(number, first, min(first + self.part_size, self.users))
            for number, first in enumerate(starts)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where things lie: enough to open a worker in another process."""

    bundle: Path
    source: Path
    directory: Path
    """Of the parts."""
    k: int
    history: HistoryPart
    threads: int

    def open(self) -> "Worker":
        """Load bundle and histories; raises InputError, BundleError or RequestError."""
        recommender = Recommender.load(self.bundle, threads=self.threads)
        population = open_population(recommender, self.source, self.history)
        return Worker(recommender, population, self.directory, min(self.k, recommender.num_items))


@dataclass(frozen=True, slots=True)
class Worker:
    """Makes parts from a loaded bundle and opened histories."""

    recommender: Recommender
    population: Population
    directory: Path
    k: int

    def make(self, part: Part) -> PartRecord:
        """Score and write one part, whole or not at all."""
        users, histories, at = self.population.slice(part.first, part.last)
        ranked = self.recommender.rank(histories, k=self.k, at=at)
        frame = self.recommender.as_frame(users, ranked)
        path = self.directory / part.file
        temporary = path.with_suffix(".tmp")
        frame.write_parquet(temporary)
        sync(temporary)
        digest = file_sha256(temporary)
        temporary.replace(path)
        sync(self.directory)
        return PartRecord(part.number, len(users), len(frame), digest)


Executor = Callable[[Job, Worker, Sequence[Part]], Iterator[PartRecord]]
"""Makes parts somewhere, in any order, and yields the record of each when it is finished. The
worker is the one of this process; others are opened from the job."""


def local(job: Job, worker: Worker, parts: Sequence[Part]) -> Iterator[PartRecord]:
    """One part after the other in this process, each on the threads of the job."""
    yield from map(worker.make, parts)


def score(
    bundle: Path,
    source: Path,
    out: Path,
    *,
    k: int = 100,
    part_size: int = 10_000,
    history: HistoryPart = "all",
    executor: Executor = local,
) -> None:
    """Write the top k of every user of `source` to `out`, or continue where a kill stopped it.

    source: a `dataset/`, or a Parquet file of events (`user_id`, `item_id`, optionally
    `timestamp`, `event`; oldest first). history: of a dataset, all events of each user or those
    before a split. Raises InputError, BundleError or RequestError.
    """
    refuse_existing(out)
    directory = partial_path(out)
    threads = os.cpu_count() or 1
    job = Job(
        bundle=bundle, source=source, directory=directory, k=k, history=history, threads=threads
    )
    worker = job.open()
    plan = Plan(
        bundle=worker.recommender.bundle_sha256,
        source=worker.population.sha256,
        history=history,
        users=len(worker.population),
        k=k,
        part_size=part_size,
    )
    with lock(out):
        parts = plan.parts()
        done = _resume(directory, plan)
        if done:
            log.info("%s: keeping %d of %d finished parts", out, len(done), len(parts))
        waiting = [part for part in parts if part.number not in done]
        with _progress(plan.users, sum(record.users for record in done.values())) as advance:
            for record in executor(job, worker, waiting):
                with (directory / JOURNAL).open("a") as stream:
                    stream.write(json.dumps(asdict(record)) + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                done[record.part] = record
                advance(record.users)
        _finish(directory, plan, [done[part.number] for part in parts])
        publish(directory, out)


def _resume(directory: Path, plan: Plan) -> dict[int, PartRecord]:
    """The finished parts that an interrupted call of the same plan left, by number.

    Whatever else lies in `directory` is removed.
    """
    wanted = json.dumps(asdict(plan), indent=1, sort_keys=True) + "\n"
    mark = directory / PLAN
    if not mark.is_file() or mark.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        mark.write_text(wanted)
    done = {
        record.part: record
        for record in _read_journal(directory / JOURNAL)
        if record.part < len(plan.parts()) and _is_whole(directory, plan, record)
    }
    keep = {PLAN, JOURNAL, *(plan.parts()[number].file for number in done)}
    for path in directory.iterdir():
        if path.name not in keep:
            path.unlink()
    return done


def _read_journal(path: Path) -> Iterator[PartRecord]:
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            yield PartRecord(**json.loads(line))
        except (ValueError, TypeError):
            return  # the line that was being written at the kill


def _is_whole(directory: Path, plan: Plan, record: PartRecord) -> bool:
    path = directory / plan.parts()[record.part].file
    return path.is_file() and file_sha256(path) == record.sha256


def _finish(directory: Path, plan: Plan, records: Sequence[PartRecord]) -> None:
    """Journal in the order of the parts, manifest, mark of success."""
    lines = "".join(json.dumps(asdict(record)) + "\n" for record in records)
    sorted_journal = directory / "parts.tmp"
    sorted_journal.write_text(lines)
    sorted_journal.replace(directory / JOURNAL)
    (directory / MANIFEST).unlink(missing_ok=True)
    (directory / SUCCESS).unlink(missing_ok=True)
    write_manifest(directory, KIND, asdict(plan), plan.bundle)
    (directory / SUCCESS).touch()


@contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A bar with users/s on a terminal; elsewhere a log line for about every tenth of the users."""
    console = Console(stderr=True)
    started = time.monotonic()
    if not console.is_terminal:
        finished = logged = done

        def report(users: int) -> None:
            nonlocal finished, logged
            finished += users
            if (finished - logged) * LOG_LINES >= total or finished == total:
                logged = finished
                speed = (finished - done) / max(time.monotonic() - started, 1e-9)
                log.info("scored %d of %d users, %.0f users/s", finished, total, speed)

        yield report
        return
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:,.0f} users/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("users", total=total, completed=done, speed=0.0)
        scored = 0

        def advance(users: int) -> None:
            nonlocal scored
            scored += users
            speed = scored / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=users, speed=speed)

        yield advance
