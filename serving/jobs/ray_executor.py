"""Parts made by Ray actors: on a cluster, or on this machine (`features.ray_cluster`).

Each actor opens the bundle once and makes one part at a time. A part whose actor or node is lost
goes back to the queue and is made by another; one that is lost `ATTEMPTS` times counts as poison.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import InputError
from features.ray_cluster import LOCAL, connected
from serving.jobs.executors import ATTEMPTS, Outcome, attempt
from serving.jobs.journal import Failure
from serving.jobs.plan import Part
from serving.jobs.worker import AnyJob, Maker


class PartActor:
    """A worker that lives in a Ray actor."""

    def __init__(self, job: AnyJob) -> None:
        self._worker = job.open()

    def is_open(self) -> bool:
        """True once the bundle is loaded; raises what loading raised."""
        return True

    def make(self, part: Part) -> Outcome:
        """Make one part."""
        return attempt(self._worker, part)


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """An executor on Ray; `address` of a cluster, or `local` to start one here."""

    address: str = LOCAL
    actors: int | None = None
    """By default one a core of the cluster."""

    def __call__(self, worker: Maker, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Make the parts. Raises InputError where Ray is not installed or cannot be reached."""
        with connected(self.address) as ray, worker.shared() as job:
            count = self.actors or max(int(ray.cluster_resources().get("CPU", 1)), 1)
            yield from _Pool(ray, job, min(count, len(parts))).run(parts)


class _Pool:
    """Actors, what each is doing, and what is still to be done.

    An actor gets a part only once it has opened the bundle: one for which the shrunken cluster has
    no room waits without holding a part back.
    """

    def __init__(self, ray: Any, job: AnyJob, count: int) -> None:
        self._ray, self._job = ray, job
        self._class = ray.remote(num_cpus=1, max_restarts=0)(PartActor)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Part]] = {}
        self._lost: dict[int, int] = {}
        for _ in range(count):
            self._start_one()

    def _start_one(self) -> None:
        actor = self._class.remote(self._job)
        self._starting[actor.is_open.remote()] = actor

    def run(self, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Make the parts, in any order."""
        queue = list(reversed(parts))
        while queue or self._busy:
            while queue and self._idle:
                actor, part = self._idle.pop(), queue.pop()
                self._busy[actor.make.remote(part)] = actor, part
            (finished,), _ = self._ray.wait([*self._busy, *self._starting], num_returns=1)
            if finished in self._starting:
                self._opened(finished)
                continue
            actor, part = self._busy.pop(finished)
            try:
                outcome = self._ray.get(finished)
            except self._ray.exceptions.RayActorError as error:
                self._start_one()
                lost = self._lost[part.number] = self._lost.get(part.number, 0) + 1
                if lost < ATTEMPTS:
                    queue.append(part)
                else:
                    yield Failure(part.number, part.source, f"its actor died: {error}", lost)
                continue
            self._idle.append(actor)
            yield outcome

    def _opened(self, finished: Any) -> None:
        """Move an actor that is ready to the idle ones; raises InputError where it failed."""
        actor = self._starting.pop(finished)
        try:
            self._ray.get(finished)
        except self._ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise InputError(f"an actor could not open {self._job.bundle}: {error}") from error
            self._start_one()  # its node was lost before it began: another one, elsewhere
            return
        self._idle.append(actor)
