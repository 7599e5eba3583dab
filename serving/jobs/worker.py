"""Makes parts from a loaded bundle: read, answer, check, write to a temporary name, rename."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import polars as pl

from features.errors import InputError
from features.stage import file_sha256, sync
from serving.jobs.encoded import read_encoded, remove_encoded, write_encoded
from serving.jobs.items import CATALOGUE, Catalogue
from serving.jobs.journal import PartRecord
from serving.jobs.outputs import answer, check_question, count_users
from serving.jobs.plan import Part, Question
from serving.jobs.population import Population, open_population
from serving.recommender import Recommender


class Maker(Protocol):
    """What an executor needs of a worker."""

    def make(self, part: Part) -> PartRecord:
        """Make one part, whole or not at all."""
        ...

    def shared(self) -> AbstractContextManager["AnyJob"]:
        """The job for other processes; what all of them need is on disk as long as it lasts."""
        ...


class AnyJob(Protocol):
    """Travels to another process and opens a worker there."""

    @property
    def bundle(self) -> Path: ...  # noqa: D102

    def open(self) -> Maker:
        """Load the bundle; raises BundleError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where things lie and what is asked: enough to open a worker in another process."""

    bundle: Path
    directory: Path
    """Of the parts."""
    question: Question
    threads: int = 1
    encoded: str = ""
    """The source whose histories lie encoded in `directory` (`serving.jobs.encoded`)."""

    def open(self) -> "Worker":
        """Load the bundle; raises BundleError."""
        recommender = Recommender.load(self.bundle, threads=self.threads, batches=True)
        check_question(recommender, self.question)
        opened = (self.encoded, read_encoded(self.directory)) if self.encoded else None
        return Worker(recommender, self, opened)


@dataclass(slots=True)
class Worker:
    """Makes parts, one at a time; keeps the source it read last."""

    recommender: Recommender
    job: Job
    _opened: tuple[str, Population] | None = field(default=None)
    _catalogue: Catalogue | None = field(default=None)

    @contextmanager
    def shared(self) -> Iterator[Job]:
        """See `Maker`; a file that was read here is not read again there."""
        opened, self._opened = self._opened, None
        if opened is None or not Path(opened[0]).is_file():
            yield self.job  # a dataset is mapped by everybody as it is
            return
        source, population = opened
        try:
            write_encoded(population, self.job.directory)
            del population, opened  # from here on everybody maps the files
            yield replace(self.job, encoded=source)
        finally:
            remove_encoded(self.job.directory)

    def population(self, source: str) -> Population:
        """The users of a source; raises InputError or RequestError."""
        if self._opened is None or self._opened[0] != source:
            self._opened = None  # before the next one is read: never two in memory
            found = open_population(self.recommender, Path(source), self.job.question.history)
            self._opened = source, found
        return self._opened[1]

    def make(self, part: Part) -> PartRecord:
        """Answer and write one part, whole or not at all.

        Raises InputError or RequestError for input that cannot be answered.
        """
        question = self.job.question
        if part.source == CATALOGUE:
            self._catalogue = self._catalogue or Catalogue(self.recommender, question)
            asked, frame = part.last - part.first, self._catalogue.answer(part.first, part.last)
            answered = len(frame)
        else:
            users = self.population(part.source).slice(part.first, part.last)
            asked, frame = len(users), answer(self.recommender, question, users)
            answered = count_users(question, frame)
        if answered != asked:
            raise InputError(f"{part.source}: {asked} asked, {answered} answered: not written")
        digest = write_whole(self.job.directory / part.file, frame.write_parquet)
        return PartRecord(part.number, asked, len(frame), digest)


def write_whole(path: Path, write: Callable[[Path], object]) -> str:
    """Let `write` fill a temporary sibling, then sync and rename it; returns its sha256.

    Raises OSError where the disk does not take it; the sibling is gone then.
    """
    temporary = path.with_suffix(".tmp")
    try:
        write(temporary)
        sync(temporary)
    except (OSError, pl.exceptions.PolarsError) as error:
        temporary.unlink(missing_ok=True)
        raise _from_system(error, path) from error
    digest = file_sha256(temporary)
    temporary.replace(path)
    sync(path.parent)
    return digest


def _from_system(error: Exception, path: Path) -> Exception:
    """The OSError behind an error of Polars, which has it in words only; others as they are."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None or isinstance(error, OSError):
        return error
    number = int(found.group(1))
    return OSError(number, os.strerror(number), str(path))
