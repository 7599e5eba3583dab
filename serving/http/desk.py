"""Where a request becomes a call: decode, compute on a thread, encode; every error has one status.

The event loop only moves bytes. Decoding, computing and encoding happen on the threads, of which
there are few: more would not compute faster, only later.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from serving.deadline import Deadline
from serving.errors import BundleError, DeadlineExceeded, RequestError, ServingError, StateError
from serving.http.gate import JSON, Visit
from serving.http.journal import Pseudonyms
from serving.http.messages import Answer, Fault
from serving.http.meters import Meters
from serving.http.workers import Workers
from serving.service import Service

log = logging.getLogger(__name__)
RETRY = (("retry-after", "1"),)


class NotFoundError(ServingError):
    """What the request names does not exist here."""


@dataclass(frozen=True)
class Call:
    """What a route does with a body."""

    route: str
    """Its name in metrics and log lines."""
    kind: type[msgspec.Struct]
    """Of the body."""
    work: Callable[[Any, Visit], msgspec.Struct | dict[str, Any]]
    """Runs on a thread of the desk."""

    @cached_property
    def decoder(self) -> msgspec.json.Decoder:
        """Of the body; may be shared between threads."""
        return msgspec.json.Decoder(self.kind)


class Desk:
    """Runs the work of all routes of one server."""

    def __init__(
        self, service: Service, meters: Meters, *, threads: int, deadline_ms: float
    ) -> None:
        self.service, self.meters = service, meters
        self.deadline_ms = deadline_ms
        self.pseudonyms = Pseudonyms()
        self._queued = meters.stages.labels("queue")
        self._workers = Workers(threads)

    async def run(self, request: Request, call: "Call") -> Response:
        """The answer to a request that came through the framework."""
        status, body = await self.answer(request.scope["recsys"], call)
        headers = dict(RETRY) if status in (503, 504) else None
        return Response(body, status, headers, media_type="application/json")

    async def send(self, visit: Visit, call: "Call", send: Send) -> None:
        """The same for a request that came past it: a third of the time, and no other answers."""
        status, body = await self.answer(visit, call)
        headers = [JSON, (b"content-length", str(len(body)).encode())]
        if status in (503, 504):
            headers += [(name.encode(), value.encode()) for name, value in RETRY]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, visit: Visit, call: "Call") -> tuple[int, bytes]:
        """Status and body; the work is done on a thread."""
        visit.route = call.route
        return await self._workers.run(self._answer, visit, call)

    def _answer(self, visit: Visit, call: "Call") -> tuple[int, bytes]:
        self._queued.observe((time.monotonic_ns() - visit.started) / 1e9)
        try:
            result = call.work(call.decoder.decode(visit.body or b"{}"), visit)
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
        self._workers.close()


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
