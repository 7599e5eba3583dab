"""What every request passes before anything is computed: who asks, how large it is, is there room.

A plain ASGI layer outside the framework, so that refusing costs next to nothing: an overloaded
server must spend its time on the requests it has taken.
"""

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.config import LOOPBACK
from serving.http.journal import write_line
from serving.http.messages import Fault
from serving.http.meters import Meters

JSON = (b"content-type", b"application/json")
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
BODY_SECONDS = 10.0
"""A body must have arrived within this time."""
OPEN_PATHS = ("/healthz", "/readyz", "/", "/playground.js", "/playground.css")
"""Answered to anybody, always: health, and a page that holds nothing."""
API = "/v1/"
SHED = 503
NO_ROOM = "no room: try again shortly"


@dataclass(slots=True)
class Visit:
    """One request on its way through; found in the scope under `recsys`."""

    request_id: str
    started: int
    """Monotonic nanoseconds at arrival."""
    body: bytes = b""
    route: str = "other"
    told: dict[str, Any] = field(default_factory=dict)
    """Fields for the log line."""


@dataclass(slots=True)
class Room:
    """How many requests are inside, shared by the listeners of a server."""

    limit: int
    inside: int = 0
    draining: bool = False


Direct = Callable[[Visit, Send], Awaitable[None]]
"""Answers a visit whose body has been read."""


class RefusedError(Exception):
    """A request that ends at the gate."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error = status, error


class ClientGoneError(Exception):
    """Nobody is there to answer any more."""


class Gate:
    """An ASGI app around another. `token` None lets everybody in who reaches the socket."""

    def __init__(
        self,
        app: ASGIApp,
        meters: Meters,
        room: Room,
        *,
        token: str | None,
        max_body: int,
        host: str,
        direct: Mapping[str, Direct] = MappingProxyType({}),
    ) -> None:
        """direct: what answers a POST to a path without the application's routing."""
        self._direct = direct
        self._app, self._meters, self._room = app, meters, room
        self._token = None if token is None else f"Bearer {token}".encode()
        self._max_body = max_body
        self._local_only = host in LOOPBACK and token is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or end it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        visit = scope["recsys"] = Visit(_request_id(headers), time.monotonic_ns())
        status = 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", visit.request_id.encode())]
                if self._room.draining:
                    extra.append((b"connection", b"close"))
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            try:
                await send(message)
            except (OSError, RuntimeError) as error:  # uvloop: the handler is closed
                raise ClientGoneError from error

        try:
            await self._enter(scope, headers, receive, watched_send)
        except RefusedError as refused:
            await _refuse(watched_send, visit, refused)
        except ClientGoneError:
            status = 499
        finally:
            self._note(visit, status or 500)

    async def _enter(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        visit, path = scope["recsys"], scope["path"]
        if path in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        self._check_caller(headers)
        if not path.startswith(API):
            await self._app(scope, receive, send)
            return
        self._check_room()
        if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            if headers.get(b"content-type", b"").split(b";")[0].strip() != JSON[1]:
                raise RefusedError(415, "request", "the body must be application/json")
            visit.body = await self._read(headers, receive)
            self._check_room()
        direct = self._direct.get(path) if scope["method"] == "POST" else None
        self._room.inside += 1
        self._meters.in_flight.set(self._room.inside)
        try:
            if direct is None:
                await self._app(scope, receive, send)
            else:
                await direct(visit, send)
        finally:
            self._room.inside -= 1
            self._meters.in_flight.set(self._room.inside)

    def _check_caller(self, headers: dict[bytes, bytes]) -> None:
        if self._token is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                raise RefusedError(401, "unauthorised", "a bearer token is needed")
        if self._local_only:  # a web page must not reach it by a name that points here
            host = headers.get(b"host", b"localhost").decode("latin-1")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name.strip("[]") not in LOOPBACK:
                raise RefusedError(
                    421, "request", f"this server answers for localhost, not {name!r}"
                )

    def _check_room(self) -> None:
        if self._room.inside >= self._room.limit:
            self._meters.shed.inc()
            raise RefusedError(SHED, "overload", NO_ROOM)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        too_large = RefusedError(413, "too_large", f"a body may have {self._max_body} bytes")
        if not length.isdigit():
            raise RefusedError(400, "request", "content-length is no number")
        if int(length) > self._max_body:
            raise too_large
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._max_body:
                        raise too_large
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise RefusedError(408, "request", f"no whole body in {BODY_SECONDS:.0f} s") from None
        return b"".join(parts)

    def _note(self, visit: Visit, status: int) -> None:
        took = (time.monotonic_ns() - visit.started) / 1e9
        responses, seconds = self._meters.of(visit.route, status)
        responses.inc()
        seconds.observe(took)
        if visit.route != "other" or (status >= 400 and status != SHED):  # a flood is only counted
            write_line(
                request_id=visit.request_id,
                route=visit.route,
                status=status,
                ms=round(took * 1e3, 3),
                **visit.told,
            )


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode()
    return secrets.token_hex(8)


async def _refuse(send: Send, visit: Visit, refused: RefusedError) -> None:
    body = msgspec.json.encode(
        Fault(error=refused.error, message=str(refused), request_id=visit.request_id)
    )
    headers = [JSON, (b"content-length", str(len(body)).encode())]
    if refused.status == SHED:
        headers.append((b"retry-after", b"1"))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    try:
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    except ClientGoneError:
        pass
