"""No room, said before a request becomes one: a full server must spend its time on what it took.

A refusal by the gate costs a parsed request, a task and two messages, some 70 microseconds; here a
request that came whole in one piece is answered by bytes that lie ready. Whatever is unusual
(pieces, chunks, pipelines, an upgrade) takes the long way, where the gate refuses it as well.
"""

import asyncio
import secrets
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http.gate import API, NO_ROOM, REQUEST_ID, SHED, Room
from serving.http.messages import Fault
from serving.http.meters import Meters

BEGINNING = b"POST " + API.encode()
END = b"\r\n\r\n"
LENGTH, NAMED = b"\r\ncontent-length:", b"\r\nx-request-id:"
UNUSUAL = (b"\r\ntransfer-encoding:", b"\r\nconnection:", b"\r\nexpect:", b"\r\nupgrade:")
PLACE = "0" * 16
"""Where the name of the request goes."""


class Refusals:
    """What a full server says. Nothing else is told, so nobody is asked for a token first."""

    def __init__(self, room: Room, meters: Meters) -> None:
        self._room, self._meters = room, meters
        self._responses, self._seconds = meters.of("other", SHED)
        fault = Fault(error="overload", message=NO_ROOM, request_id=PLACE)
        self._body = msgspec.json.encode(fault).split(PLACE.encode())

    def to(self, data: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The answer to one whole request that there is no room for; None for anything else.

        headers: those of every response.
        """
        room = self._room
        if room.inside < room.limit or room.draining or not data.startswith(BEGINNING):
            return None
        end = data.find(END)
        if end < 0:
            return None
        head = data[: end + 2].lower()
        if b" http/1.1\r\n" not in head or head.count(LENGTH) != 1:
            return None
        if any(name in head for name in UNUSUAL):
            return None
        length = _value(head, head, LENGTH)
        if not length.isdigit() or end + len(END) + int(length) != len(data):
            return None
        name = _value(data, head, NAMED) if NAMED in head else b""
        if not REQUEST_ID.fullmatch(name):
            name = secrets.token_hex(8).encode()
        self._meters.shed.inc()
        self._responses.inc()
        self._seconds.observe(0.0)
        return self._written(name, headers)

    def _written(self, name: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
        body = self._body[0] + name + self._body[1]
        more = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return (
            b"HTTP/1.1 503 Service Unavailable\r\n%bcontent-type: application/json\r\n"
            b"content-length: %d\r\nretry-after: 1\r\nx-request-id: %b\r\n\r\n%b"
            % (more, len(body), name, body)
        )


def _value(data: bytes, head: bytes, header: bytes) -> bytes:
    """What stands behind a header, as it was sent; `head` is the same in small letters."""
    start = head.index(header) + len(header)
    return data[start : head.index(b"\r\n", start)].strip()


class Protocol(HttpToolsProtocol):
    """uvicorn's, with a look at the room before anything is parsed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        refusals: Refusals,
    ) -> None:
        """refusals: what a full server says."""
        super().__init__(config, server_state, app_state, _loop)
        self._refusals = refusals
        self._amid = False
        """Whether a request has begun and not ended: then what comes belongs to it."""

    def data_received(self, data: bytes) -> None:
        """Refuse what there is no room for; parse the rest."""
        if not self._amid and (self.cycle is None or self.cycle.response_complete):
            answer = self._refusals.to(data, self.server_state.default_headers)
            if answer is not None:
                self._unset_keepalive_if_required()
                self.transport.write(answer)
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._amid = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._amid = False
        super().on_message_complete()
