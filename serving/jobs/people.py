"""An outcome bundle's predictions for everybody as Parquet parts, by the machinery of `batch`.

    out/part-00000.parquet ...   user_id, a column per probability, and where asked `embedding`

The source is a dataset of lives (every case of every person, with its moment `at`) or a Parquet
file of events, with persons in another one; see `serving.outcomes`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import InputError
from features.life_encode import Documents
from features.life_layout import LIVES
from features.life_store import Lives
from features.stage import MANIFEST, file_sha256, read_manifest
from serving.jobs.journal import PartRecord
from serving.jobs.plan import Part, PeopleQuestion, slices
from serving.jobs.worker import write_whole
from serving.outcomes import OutcomePredictor


@dataclass(frozen=True, slots=True)
class People:
    """Who is asked about. extra: further columns of the answer."""

    users: pl.Series
    documents: Documents
    extra: Mapping[str, pl.Series] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleJob:
    """Where things lie and what is asked: enough to open a worker in another process."""

    bundle: Path
    directory: Path
    question: PeopleQuestion
    threads: int = 1

    def open(self) -> "PeopleWorker":
        """Load the bundle; raises BundleError."""
        predictor = OutcomePredictor.load(self.bundle, threads=self.threads)
        return PeopleWorker(predictor, self)


@dataclass(slots=True)
class PeopleWorker:
    """Makes parts, one at a time; keeps the source it read last."""

    predictor: OutcomePredictor
    job: PeopleJob
    _opened: tuple[str, People] | None = None

    @contextmanager
    def shared(self) -> Iterator[PeopleJob]:
        """See `serving.jobs.worker.Maker`."""
        self._opened = None
        yield self.job

    def people(self, source: str) -> People:
        """Everybody in a source; raises InputError or RequestError."""
        if self._opened is None or self._opened[0] != source:
            self._opened = source, open_people(self.predictor, Path(source), self.job.question)
        return self._opened[1]

    def make(self, part: Part) -> PartRecord:
        """Predict and write one part, whole or not at all."""
        people, last = self.people(part.source), part.last
        rows = slice(part.first, len(people) if last < 0 else last)
        predicted = self.predictor.run(people.documents.take(rows))
        frame = self.predictor.as_frame(
            people.users[rows], predicted, embedding=self.job.question.embedding
        )
        extra = [values[rows].alias(name) for name, values in people.extra.items()]
        frame = frame.select("user_id", *extra, pl.exclude("user_id"))
        digest = write_whole(self.job.directory / part.file, frame.write_parquet)
        return PartRecord(part.number, len(frame), len(frame), digest)


def open_people(predictor: OutcomePredictor, source: Path, question: PeopleQuestion) -> People:
    """A dataset of lives or a Parquet file of events; raises InputError or RequestError."""
    if source.is_dir():
        if question.persons or question.at:
            raise InputError(
                f"{source} knows its persons and moments: leave out --persons and --at"
            )
        return _of_lives(predictor, source)
    frames = [_read(source), _read(Path(question.persons)) if question.persons else None]
    assert frames[0] is not None
    try:
        at = datetime.fromisoformat(question.at) if question.at else None
    except ValueError as error:
        raise InputError(f"--at {question.at!r}: {error}; write 2024-12-31") from error
    request = predictor.reader.read(frames[0], frames[1], at)
    return People(request.users, request.documents)


def _of_lives(predictor: OutcomePredictor, source: Path) -> People:
    data = Lives.open(source)
    if data.schema.vocabulary_hash != predictor.schema.vocabulary_hash:
        raise InputError(
            f"the bundle knows other tokens than {source}: export the bundle from this dataset, or "
            f"give the events as Parquet with raw values"
        )
    rows = np.arange(len(data.cases["user"]))
    users = pl.Series("user_id", data.raw_users())[data.cases["user"]]
    at = pl.Series("at", data.cases["at"]).cast(pl.Datetime("us"))
    return People(users, data.documents(rows), {"at": at})


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error


def digest_of(source: Path, question: PeopleQuestion) -> str:
    """What the answers depend on: hashes of the source and of the persons."""
    if source.is_dir() and (source / MANIFEST).is_file():
        return read_manifest(source, LIVES).sha256
    if not source.is_file():
        raise InputError(f"{source} is neither a dataset of lives nor a Parquet file")
    persons = Path(question.persons)
    if question.persons and not persons.is_file():
        raise InputError(f"--persons {persons} is not there")
    return file_sha256(source) + (file_sha256(persons) if question.persons else "")


def people_parts(worker: PeopleWorker, source: Path, part_size: int) -> tuple[Part, ...]:
    """Slices of everybody; raises InputError where nobody is."""
    count = len(worker.people(str(source)))
    if not count:
        raise InputError(f"{source} holds nobody: there is nothing to score")
    return slices(source, count, part_size)
