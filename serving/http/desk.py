"""Where a request becomes a call: decode, compute on a thread, encode; every error has one status.

The event loop only moves bytes. Decoding, computing and encoding happen on the threads, of which
there are few: more would not compute faster, only later.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.deadline import Deadline
from serving.errors import BundleError, DeadlineExceeded, RequestError, ServingError, StateError
from serving.http.gate import Visit
from serving.http.journal import Pseudonyms
from serving.http.messages import Answer, Fault
from serving.http.meters import Meters
from serving.service import Service

log = logging.getLogger(__name__)
M = TypeVar("M", bound=msgspec.Struct)


class NotFoundError(ServingError):
    """What the request names does not exist here."""


class Desk:
    """Runs the work of all routes of one server."""

    def __init__(
        self, service: Service, meters: Meters, *, threads: int, deadline_ms: float
    ) -> None:
        self.service, self.meters = service, meters
        self.deadline_ms = deadline_ms
        self.pseudonyms = Pseudonyms()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="recsys")

    async def run(
        self,
        request: Request,
        route: str,
        kind: type[M],
        work: Callable[[M, Visit], msgspec.Struct | dict[str, Any]],
    ) -> Response:
        """The answer to a request whose body is a `kind`; `work` runs on a thread."""
        visit: Visit = request.scope["recsys"]
        visit.route = route
        loop = asyncio.get_running_loop()
        status, body = await loop.run_in_executor(self._pool, self._answer, visit, kind, work)
        headers = {"retry-after": "1"} if status in (503, 504) else None
        return Response(body, status, headers, media_type="application/json")

    def _answer(
        self,
        visit: Visit,
        kind: type[M],
        work: Callable[[M, Visit], msgspec.Struct | dict[str, Any]],
    ) -> tuple[int, bytes]:
        waited = time.monotonic_ns() - visit.started
        self.meters.stages.labels("queue").observe(waited / 1e9)
        try:
            result = work(msgspec.json.decode(visit.body or b"{}", type=kind), visit)
            if isinstance(result, Answer):
                self._count(result, visit)
            return 200, msgspec.json.encode(result)
        except Exception as error:
            status, fault = fault_of(error, visit)
            visit.told["error"] = fault.error
            if status == 500:
                log.exception("request %s", visit.request_id)
            return status, msgspec.json.encode(fault)

    def deadline(self, visit: Visit, milliseconds: float | None) -> Deadline:
        """When a request must be answered, counted from its arrival."""
        allowed = self.deadline_ms if milliseconds is None else milliseconds
        return Deadline(visit.started + int(allowed * 1e6))

    def _count(self, answer: Answer, visit: Visit) -> None:
        for reason in answer.degraded:
            self.meters.degraded.labels(reason).inc()
        if answer.unknown:
            self.meters.unknown.inc(answer.unknown)
        visit.told |= {
            "bundle": answer.bundle_version,
            "items": len(answer.items),
            "degraded": answer.degraded or None,
        }

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown(wait=True)


def fault_of(error: Exception, visit: Visit) -> tuple[int, Fault]:
    """The status of an error, and what the caller is told; only a bug says nothing."""
    match error:
        case msgspec.ValidationError() | RequestError():
            status, kind = 422, "request"
        case msgspec.DecodeError() | UnicodeDecodeError() | RecursionError():
            status, kind = 400, "request"
        case NotFoundError():
            status, kind = 404, "not_found"
        case DeadlineExceeded():
            status, kind = 504, "deadline"
        case StateError():
            status, kind = 503, "state"
        case BundleError():
            status, kind = 409, "unavailable"
        case _:
            message = f"a fault of this server: its log has {visit.request_id}"
            return 500, Fault(error="bug", message=message, request_id=visit.request_id)
    return status, Fault(error=kind, message=str(error), request_id=visit.request_id)
