"""Where parts are made: in this process, or in several that may die.

An executor takes the worker that is open in this process and the parts to make, and yields for
each part, in any order, a `PartRecord` when it is on disk or a `Failure`. A part whose input is
refused fails at once; one whose worker died is tried again alone, so that a part that kills its
worker takes nobody with it.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

from features.errors import InputError
from serving.errors import ServingError
from serving.jobs.journal import Failure, PartRecord
from serving.jobs.plan import Part
from serving.jobs.worker import AnyJob, Maker

Outcome = PartRecord | Failure
Executor = Callable[[Maker, Sequence[Part]], Iterator[Outcome]]

ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"
)  # fmt: skip
ATTEMPTS = 3
"""Of a part whose worker dies, before it counts as poison."""


def attempt(worker: Maker, part: Part) -> Outcome:
    """Make one part; input that is refused and other errors become a Failure."""
    try:
        return worker.make(part)
    except (InputError, ServingError) as error:
        return Failure(part.number, part.source, str(error), 1)
    except OSError:
        raise  # a full disk is no fault of the part: the job stops and can be continued
    except Exception as error:  # a fault of ours on one part must not lose the others
        return Failure(part.number, part.source, f"{type(error).__name__}: {error}", 1)


def in_process(worker: Maker, parts: Sequence[Part]) -> Iterator[Outcome]:
    """One part after the other in this process, on the threads of the job."""
    for part in parts:
        yield attempt(worker, part)


_worker: Maker | None = None
"""Of a child process: opened once, before its first part."""


def _open(job: AnyJob) -> None:
    global _worker
    _worker = job.open()


def _make(part: Part) -> Outcome:
    assert _worker is not None
    return attempt(_worker, part)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile compute on one thread, unless the user said otherwise:
    they are the parallelism, and threads that wait for each other's cores cost both.
    """
    added = [name for name in ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@dataclass(frozen=True, slots=True)
class Processes:
    """An executor of `count` processes, one thread each."""

    count: int

    def __call__(self, worker: Maker, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Make the parts; see the head of this file."""
        with one_thread_each(), worker.shared() as job:
            yield from self._make(job, parts)

    def _make(self, job: AnyJob, parts: Sequence[Part]) -> Iterator[Outcome]:
        waiting, suspects = list(parts), list[tuple[Part, int]]()
        while waiting:
            died = yield from self._together(job, waiting)
            suspects += [(part, 1) for part in died[: self.count]]
            waiting = died[self.count :]
        for part, attempts in suspects:
            yield from self._alone(job, part, attempts)

    def _together(self, job: AnyJob, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Make parts until all are done or a worker dies; returns those not done, oldest first."""
        pending: dict[Future[Outcome], Part] = {}
        queue = list(reversed(parts))
        with self._pool(job, self.count) as pool:
            try:
                while queue or pending:
                    while queue and len(pending) < 2 * self.count:  # none idle, little in flight
                        part = queue.pop()
                        pending[pool.submit(_make, part)] = part
                    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in sorted(finished, key=lambda one: pending[one].number):
                        outcome = future.result()
                        del pending[future]
                        yield outcome
            except BrokenProcessPool:
                return [*pending.values(), *reversed(queue)]
        return []

    def _alone(self, job: AnyJob, part: Part, attempts: int) -> Iterator[Outcome]:
        """Make one part in a process of its own, so that nobody else suffers."""
        while attempts < ATTEMPTS:
            attempts += 1
            with self._pool(job, 1) as pool:
                try:
                    yield pool.submit(_make, part).result()
                except BrokenProcessPool:
                    continue
                return
        yield Failure(part.number, part.source, "the process that made it died", attempts)

    def _pool(self, job: AnyJob, count: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # onnxruntime and Polars do not fork
        return ProcessPoolExecutor(count, context, initializer=_open, initargs=(job,))


def local(processes: int | None = None) -> Executor:
    """The executor of one machine: by default a process for every core."""
    count = processes or len(os.sched_getaffinity(0))
    return in_process if count == 1 else Processes(count)
