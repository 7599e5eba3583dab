"""Ray, where one machine is not enough: on a cluster, or on this machine with the address `local`.

A Ray started here takes work from holders of its token only; for a cluster, start it with
RAY_AUTH_MODE=token and give the same token here. Ray reads both when it is first imported. Paths
must mean the same on every node (a shared file system, or the same copy everywhere).
"""

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from features.errors import InputError
from features.spread import Piece, Result

LOCAL = "local"
OBJECT_STORE = 128 << 20
"""Bytes of Ray's shared memory on this machine: data go through files, not through it."""
RETRIES = 3
"""Of a piece whose process or node is lost."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected; disconnected at the end.

    Raises InputError where Ray is not installed or cannot be reached.
    """
    ray = _connect(address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:  # nobody else on this machine may send it work
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray = import_module("ray")  # an extra: only who works on Ray installs it
    except ImportError as error:
        raise InputError("Ray is not installed: install the package's `ray` extra") from error
    options: dict[str, Any] = {"address": address, "log_to_driver": False}
    if address == LOCAL:
        options = {
            "num_cpus": len(os.sched_getaffinity(0)),
            "object_store_memory": OBJECT_STORE,
            "include_dashboard": False,
            "log_to_driver": False,
        }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}") from error
    return ray


@dataclass(frozen=True, slots=True)
class RaySpread:
    """A `features.spread.Spread` of Ray tasks, one a core; lost ones are done again elsewhere."""

    address: str = LOCAL

    def __call__(
        self, function: Callable[[Piece], Result], pieces: Sequence[Piece]
    ) -> Iterator[Result]:
        """The result of every piece, in order; few are under way, so little waits for its turn.

        Raises InputError as `connected` does, and what a piece raised.
        """
        with connected(self.address) as ray:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
            cores = max(int(ray.cluster_resources().get("CPU", 1)), 1)
            running: deque[Any] = deque()
            for piece in pieces:
                if len(running) >= 2 * cores:
                    yield self._result(ray, running.popleft())
                running.append(task.remote(piece))
            while running:
                yield self._result(ray, running.popleft())

    def _result(self, ray: Any, running: Any) -> Any:
        try:
            return ray.get(running)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            raise InputError(
                f"a piece of work was lost {RETRIES + 1} times with its process (out of memory?): "
                f"make the parts smaller and give the same command again: {error}"
            ) from error
