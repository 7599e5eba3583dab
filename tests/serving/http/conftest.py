"""A running server in this process, on ports that the system picks, and a client without magic."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.http.config import ServeConfig
from serving.http.server import Server, Stop
from serving.live import Live
from serving.recommender import Recommender
from serving.service import Service

BUNDLE = Path(__file__).parents[2] / "bundles" / "v1"


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Asks one listener, each time over a new connection."""

    address: str
    token: str | None = None

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answered:
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        try:
            connection.request(method, path, body, sent)
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Answered(found.status, names, found.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.send("GET", path, **headers)

    def post(self, path: str, message: Any, **headers: str) -> Answered:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.send("POST", path, body, **{"Content_Type": "application/json", **headers})


@dataclass
class Running:
    """A server, its two clients, and the way to end it."""

    server: Server
    public: Client
    admin: Client
    stop: Callable[[float], None]
    thread: threading.Thread


@contextmanager
def run_server(service: Service, **options: Any) -> Iterator[Running]:
    server = Server(service, ServeConfig(**{"port": 0, "drain_seconds": 0.0, **options}))
    ready: dict[str, Any] = {}
    up = threading.Event()

    async def main() -> None:
        stop = ready["stop"] = Stop()
        ready["loop"] = asyncio.get_running_loop()

        def started(public: str, admin: str) -> None:
            ready["addresses"] = (public, admin)
            up.set()

        await server.serve(stop, started)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert up.wait(20), "the server did not start"
    public, admin = map(Client, ready["addresses"])

    def stop(drain_seconds: float) -> None:
        ready["loop"].call_soon_threadsafe(ready["stop"].ask, drain_seconds)

    try:
        yield Running(server, public, admin, stop, thread)
    finally:
        if thread.is_alive():
            stop(0.0)
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="session")
def recommender() -> Recommender:
    return Recommender.load(BUNDLE)


@pytest.fixture
def start(recommender: Recommender) -> Iterator[Callable[..., Running]]:
    """Starts servers over the kept bundle: start(store=..., exposures=..., port=...)."""
    open_servers = []

    def begin(**options: Any) -> Running:
        parts = {
            name: options.pop(name)
            for name in ("store", "exposures", "feedback")
            if name in options
        }
        live = options.pop("live", None) or Live(options.pop("recommender", recommender))
        compare = options.pop("compare", None)
        compared = None if compare is None else Live(compare)
        service = Service(live, compared=compared, **parts)
        context = run_server(service, **options)
        open_servers.append(context)
        return context.__enter__()

    yield begin
    for context in reversed(open_servers):
        context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def module_server(recommender: Recommender) -> Iterator[Running]:
    """One server without a store, for tests that leave nothing behind."""
    with run_server(Service(Live(recommender))) as running:
        yield running
