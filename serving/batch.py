"""A bundle's answers for all users as Parquet parts: whole, continued after a kill, checked.

    out/part-00000.parquet ...   see `serving.jobs.outputs`
    out/plan.json                what was asked of which bundle and source
    out/parts.jsonl              users, rows and sha256 of each part
    out/quarantine.jsonl         parts that could not be made, where that was allowed
    out/report.json              throughput and quality
    out/manifest.json, _SUCCESS  written last; then the hidden sibling is renamed to `out`

A part is written to a temporary name, synced, renamed, and only then entered in the journal. After
a kill the same call keeps the parts whose content is what the journal says and makes the others,
so that the parts equal those of an undisturbed run. The same call on a finished job does nothing.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import InputError
from features.stage import (
    MANIFEST,
    file_sha256,
    lock,
    partial_path,
    publish,
    read_manifest,
    refuse_existing,
    verify_files,
    write_manifest,
)
from serving.jobs.executors import Executor, local
from serving.jobs.items import CATALOGUE
from serving.jobs.journal import PLAN, Failure, Journal, PartRecord
from serving.jobs.people import PeopleJob, digest_of, people_parts
from serving.jobs.plan import (
    ABOUT_ITEMS,
    Part,
    PeopleQuestion,
    Plan,
    Question,
    dataset_digest,
    files_digest,
    is_dataset,
    shard_files,
    slices,
)
from serving.jobs.progress import show_progress
from serving.jobs.quality import Limit, measure
from serving.jobs.users import check_users_once
from serving.jobs.worker import Job, Maker, Worker

log = logging.getLogger(__name__)

QUARANTINE, REPORT, SUCCESS = "quarantine.jsonl", "report.json", "_SUCCESS"
KIND = "scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What must hold of a result before it is published."""

    max_quarantined: int = 0
    """Parts that may be missing because they could not be made."""
    limits: tuple[Limit, ...] = ()
    previous: Path | None = None
    """The result of an earlier job, to compare with."""


def score(
    bundle: Path,
    source: Path | None,
    out: Path,
    *,
    question: Question = Question(),  # noqa: B008 (frozen)
    part_size: int = 10_000,
    executor: Executor | None = None,
    checks: Checks = Checks(),
) -> None:
    """Answer `question` for every user of `source` into `out`, or continue where a kill stopped.

    source: see `serving.jobs.plan`; None where the question is about items. part_size: users (or
    items) a part, of a dataset or single file.
    executor: by default one process a core. Raises InputError, BundleError or RequestError; a
    result that breaks `checks` is kept hidden, and the same call with other checks publishes it.
    """
    directory = partial_path(out)
    worker = Job(bundle=bundle, directory=directory, question=question).open()
    plan = make_plan(worker, source, part_size)
    run_job(worker, plan, out, executor, checks, lambda d, r: _judge(worker, d, r, checks))


def score_people(
    bundle: Path,
    source: Path,
    out: Path,
    *,
    question: PeopleQuestion = PeopleQuestion(),  # noqa: B008 (frozen)
    part_size: int = 10_000,
    executor: Executor | None = None,
) -> None:
    """Predict the outcomes of everybody in `source` into `out`, or continue after a kill.

    bundle: of an outcome model. source: a dataset of lives, whose every case is answered, or a
    Parquet file of events. Raises InputError, BundleError or RequestError.
    """
    directory = partial_path(out)
    worker = PeopleJob(bundle=bundle, directory=directory, question=question).open()
    plan = Plan(
        bundle=worker.predictor.bundle_sha256,
        source=digest_of(source, question),
        question=question,
        parts=people_parts(worker, source, part_size),
        users=len(worker.people(str(source))),
    )
    run_job(worker, plan, out, executor, Checks(), _report_people)


def run_job(
    worker: Maker,
    plan: Plan,
    out: Path,
    executor: Executor | None,
    checks: Checks,
    judge: Callable[[Path, dict[str, Any]], None],
) -> None:
    """Make every part of `plan` that is not there yet, judge and publish them as `out`.

    judge: gets the directory of the parts and the report so far, and writes the report.
    """
    directory = partial_path(out)
    if _is_done(out, plan):
        log.info("%s is there already", out)
        return
    refuse_existing(out)
    with lock(out):
        journal = Journal(directory, plan)
        done = journal.resume()
        kept, started = len(done), time.monotonic()
        if done:
            log.info("%s: keeping %d of %d finished parts", out, kept, len(plan.parts))
        try:
            failures = _make(worker, journal, done, executor or _executor_for(plan))
        except OSError as error:
            raise InputError(
                f"{out}: {error}: {len(done)} of {len(plan.parts)} parts are finished and kept; "
                f"put it right (a full disk: make room) and give the same command again"
            ) from error
        seconds = time.monotonic() - started
        _write_failures(directory, failures)
        _refuse_failures(directory, failures, plan, checks)
        journal.finish(done)
        made = [done[number] for number in sorted(done)]
        report = _report(made, kept, seconds) | {"quarantined": [asdict(one) for one in failures]}
        judge(directory, report)
        _seal(directory, plan)
        publish(directory, out)


def make_plan(worker: Worker, source: Path | None, part_size: int) -> Plan:
    """The parts of a source; raises InputError where there is nothing to score."""
    bundle, question = worker.recommender.bundle_sha256, worker.job.question
    if source is None:
        users, digest = worker.recommender.num_items, bundle
        parts = slices(Path(CATALOGUE), users, part_size)
    elif is_dataset(source) or source.is_file():
        users = len(worker.population(str(source)))
        digest = dataset_digest(source) if source.is_dir() else file_sha256(source)
        parts = slices(source, users, part_size)
    elif source.is_dir() or "*" in source.name:
        files = shard_files(source)
        users, digest = -1, files_digest(files)
        parts = tuple(Part(number, str(path)) for number, path in enumerate(files))
    else:
        raise InputError(f"{source} is neither a dataset nor a Parquet file: there is no such path")
    return Plan(bundle=bundle, source=digest, question=question, parts=parts, users=users)


def _executor_for(plan: Plan) -> Executor:
    """A process for every core, but none for work that is done before it would have started."""
    return local(1 if len(plan.parts) == 1 else None)


def _is_done(out: Path, plan: Plan) -> bool:
    """Whether `out` holds the whole result of this plan; raises InputError where it is damaged."""
    if not (out / SUCCESS).is_file() or not (out / PLAN).is_file():
        return False
    if (out / PLAN).read_text() != plan.to_json():
        return False
    verify_files(out, read_manifest(out, KIND))
    return True


def _make(
    worker: Maker, journal: Journal, done: dict[int, PartRecord], executor: Executor
) -> list[Failure]:
    """Make the parts that are not in `done`, and enter them there; returns those that failed."""
    failures = []
    waiting = [part for part in journal.plan.parts if part.number not in done]
    if not waiting:
        return []
    kept = [record.users for record in done.values()]
    with show_progress(journal.plan, len(kept), sum(kept)) as advance:
        for outcome in executor(worker, waiting):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                log.warning("part %d (%s): %s", outcome.part, outcome.source, outcome.error)
                advance(0)
                continue
            journal.add(outcome)
            done[outcome.part] = outcome
            advance(outcome.users)
    return sorted(failures, key=lambda failure: failure.part)


def _write_failures(directory: Path, failures: Sequence[Failure]) -> None:
    if failures:
        lines = "".join(json.dumps(asdict(failure)) + "\n" for failure in failures)
        (directory / QUARANTINE).write_text(lines)


def _refuse_failures(
    directory: Path, failures: Sequence[Failure], plan: Plan, checks: Checks
) -> None:
    if len(failures) <= checks.max_quarantined and len(failures) < len(plan.parts):
        return
    first = failures[0]
    if len(plan.parts) == 1:
        raise InputError(first.error)
    raise InputError(
        f"{len(failures)} of {len(plan.parts)} parts could not be made and are listed in "
        f"{directory / QUARANTINE} (first: part {first.part} of {first.source}: {first.error}); "
        f"the others are kept: mend the input and give the same command, or allow it by "
        f"--max-quarantined {len(failures)}"
    )


def _report(made: Sequence[PartRecord], kept: int, seconds: float) -> dict[str, Any]:
    """Throughput of this call: parts that an earlier one had made do not count."""
    new = sum(record.users for record in made[kept:])
    return {
        "users": sum(record.users for record in made),
        "rows": sum(record.rows for record in made),
        "parts": len(made),
        "parts_kept_from_earlier": kept,
        "seconds": round(seconds, 3),
        "users_per_second": round(new / max(seconds, 1e-9), 1),
    }


def _judge(worker: Worker, directory: Path, report: dict[str, Any], checks: Checks) -> None:
    """Measure the result, write the report, and raise InputError where a limit is broken."""
    if worker.job.question.what not in ABOUT_ITEMS:
        check_users_once(directory)
    if worker.job.question.what == "lists":
        num_items = worker.recommender.num_items
        report["quality"] = measure(directory, num_items, checks.previous)
    (directory / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    figures = report.get("quality", {})
    broken = [said for limit in checks.limits if (said := limit.broken_by(figures))]
    if broken:
        raise InputError(
            f"the result breaks {len(broken)} limit(s): {'; '.join(broken)}. It is kept in "
            f"{directory}; the same command with other limits publishes it without scoring again"
        )


def _report_people(directory: Path, report: dict[str, Any]) -> None:
    """The mean of every probability: what moved since the last job shows there."""
    numbers = pl.scan_parquet(directory / "part-*.parquet").select(pl.col(pl.Float32).mean())
    report["mean_probability"] = numbers.collect().row(0, named=True)
    (directory / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")


def _seal(directory: Path, plan: Plan) -> None:
    for name in (MANIFEST, SUCCESS):
        (directory / name).unlink(missing_ok=True)
    write_manifest(directory, KIND, dict(plan.summary()), plan.bundle)
    (directory / SUCCESS).touch()
