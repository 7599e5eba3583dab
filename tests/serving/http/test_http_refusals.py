"""A full server: what is refused before it is parsed, and what takes the long way."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.http.gate import Room
from serving.http.meters import Meters
from serving.http.refusals import Refusals
from serving.live import Live
from serving.recommender import Recommender
from serving.service import Service

BODY = b'{"k": 3}'
HEAD = (
    b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n%b\r\n"
)
WHOLE = HEAD % (len(BODY), b"") + BODY


@pytest.fixture
def refusals(recommender: Recommender) -> Refusals:
    return Refusals(Room(limit=0), Meters(Service(Live(recommender))))


UNUSUAL = {
    "another route": WHOLE.replace(b"/v1/recommend", b"/healthz"),
    "another method": WHOLE.replace(b"POST", b"GET"),
    "half a head": WHOLE[:40],
    "half a body": WHOLE[:-3],
    "two requests": WHOLE + WHOLE,
    "two lengths": HEAD % (len(BODY), b"Content-Length: 8\r\n") + BODY,
    "no length": HEAD.replace(b"Content-Length: %d\r\n", b"") % b"" + BODY,
    "a length that is none": WHOLE.replace(b": 8\r\n", b": +8\r\n"),
    "chunks": HEAD % (len(BODY), b"Transfer-Encoding: chunked\r\n") + BODY,
    "the last of its connection": HEAD % (len(BODY), b"Connection: close\r\n") + BODY,
    "a question first": HEAD % (len(BODY), b"Expect: 100-continue\r\n") + BODY,
    "an older protocol": WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_takes_the_long_way(refusals: Refusals, data: bytes) -> None:
    assert refusals.to(WHOLE, []) is not None
    assert refusals.to(data, []) is None


def test_nobody_is_refused_while_there_is_room(recommender: Recommender) -> None:
    room = Room(limit=1)
    refusals = Refusals(room, Meters(Service(Live(recommender))))
    assert refusals.to(WHOLE, []) is None
    room.inside = 1
    assert refusals.to(WHOLE, []) is not None
    room.draining = True
    assert refusals.to(WHOLE, []) is None, "the gate tells the connection to close"


@pytest.mark.parametrize("name", [b"mine-1", b"no name", b"\xff", b""])
def test_a_refusal_carries_the_name_of_its_request(refusals: Refusals, name: bytes) -> None:
    found = refusals.to(HEAD % (len(BODY), b"X-Request-Id: %b\r\n" % name) + BODY, [(b"a", b"b")])
    assert found is not None
    head, _, body = found.partition(b"\r\n\r\n")
    headers = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"a"] == b"b"
    told = json.loads(body)["request_id"].encode()
    assert told == headers[b"x-request-id"]
    assert (told == name) is (name == b"mine-1")


class Raw:
    """A connection that stays, byte by byte."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], Any]:
        for piece in pieces:
            self.socket.sendall(piece)
            if piece is not pieces[-1]:
                time.sleep(0.05)  # so that they arrive apart
        found = b""
        while b"\r\n\r\n" not in found:
            found += self.socket.recv(1 << 16)
        head, _, body = found.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        while len(body) < int(headers["content-length"]):
            body += self.socket.recv(1 << 16)
        return int(lines[0].split()[1]), headers, json.loads(body)


@pytest.fixture
def connect() -> Iterator[Callable[[str], Raw]]:
    """Opens connections, which end with the test."""
    opened: list[Raw] = []

    def one(address: str) -> Raw:
        opened.append(Raw(address))
        return opened[-1]

    yield one
    for raw in opened:
        raw.socket.close()


@pytest.fixture
def full(start: Callable[..., Any], recommender: Recommender) -> Iterator[Any]:
    """A server whose only thread is busy until its `let_go` is set."""
    let_go, entered = threading.Event(), threading.Event()

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(recommender, name)

        def recommend(self, *arguments: Any, **options: Any) -> Any:
            entered.set()
            assert let_go.wait(20)
            return recommender.recommend(*arguments, **options)

    running = start(recommender=Busy(), threads=1, queue=0)
    running.let_go = let_go
    taken = threading.Thread(target=running.public.post, args=("/v1/recommend", {}))
    taken.start()
    assert entered.wait(20)
    yield running
    let_go.set()
    taken.join()


def test_both_ways_of_refusing_say_the_same(full: Any, connect: Callable[[str], Raw]) -> None:
    connection = connect(full.public.address)
    named = HEAD % (len(BODY), b"X-Request-Id: mine-1\r\n") + BODY
    short = connection.ask(named)
    long = connect(full.public.address).ask(named[:30], named[30:])
    for one in (short, long):
        one[1].pop("date")
    assert short == long
    assert short[0] == 503
    assert short[1]["retry-after"] == "1"
    assert connection.ask(named)[0] == 503, "the connection goes on"
    full.let_go.set()
    while connection.ask(WHOLE)[0] == 503:
        time.sleep(0.01)
    assert connection.ask(WHOLE[:30], WHOLE[30:])[0] == 200, "in one piece or in two"


def test_a_body_that_looks_like_a_request_is_a_body(
    full: Any, connect: Callable[[str], Raw]
) -> None:
    """It comes after its head, on a connection whose answer may be out already."""
    connection = connect(full.public.address)
    head = HEAD % (len(WHOLE), b"")
    assert connection.ask(head)[0] == 503
    connection.socket.sendall(WHOLE)
    time.sleep(0.1)
    status, headers, _ = connection.ask(HEAD % (len(BODY), b"X-Request-Id: next\r\n") + BODY)
    assert (status, headers["x-request-id"]) == (503, "next"), "nothing came in between"
