"""Two listeners in one event loop, and an end in order: not ready, then drained, then closed."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from features.errors import InputError
from serving.breaker import GuardedHistory
from serving.exposures import open_exposures, open_feedback
from serving.history import HistoryStore, SQLiteHistory
from serving.http.admin import admin_app
from serving.http.config import ServeConfig, check_exposure, read_token, with_ports
from serving.http.desk import Desk
from serving.http.gate import Gate, Room
from serving.http.journal import write_line
from serving.http.meters import Meters
from serving.http.public import direct_calls, public_app
from serving.http.refusals import Protocol, Refusals
from serving.index import RemoteIndexes
from serving.live import Live
from serving.registry import VERSIONS
from serving.service import Service

SWITCH_SECONDS = 0.0005
"""How long a computing thread may hold the interpreter while the event loop waits for it."""
GRACE_SECONDS = 10
"""For requests inside when the listeners close."""


Started = Callable[[str, str], None]
"""Told the addresses of the public and the admin listener."""


def _say_nothing(public: str, admin: str) -> None:
    pass


class Stop:
    """The wish that a server ends."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.drain_seconds, self.at_once = 0.0, False

    def ask(self, drain_seconds: float) -> None:
        """End after so long; asked a second time, at once."""
        self.at_once = self.asked.is_set()
        self.drain_seconds = drain_seconds
        self.asked.set()


class Listener(uvicorn.Server):
    """One socket; signals are the server's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Server:
    """A service behind its listeners. Ready to `run` once constructed."""

    def __init__(self, service: Service, config: ServeConfig) -> None:
        """Raises InputError where a listener would be open to the network without a token."""
        config = with_ports(config)
        token = read_token(config.token_file, os.environ.get("RECSYS_TOKEN"))
        admin_token = read_token(config.admin_token_file, os.environ.get("RECSYS_ADMIN_TOKEN"))
        admin_token = admin_token or token
        check_exposure(config.host, token, "public")
        check_exposure(config.admin_host, admin_token, "admin")
        self.config, self.service = config, service
        self.meters = Meters(service)
        self.room = Room(config.limit)
        self.desk = Desk(
            service, self.meters, threads=config.num_threads, deadline_ms=config.deadline_ms
        )
        max_body = config.max_body_kib * 1_024

        self.public = Gate(
            public_app(self.desk, self.room, playground=config.playground),
            self.meters,
            self.room,
            token=token,
            max_body=max_body,
            host=config.host,
            direct=direct_calls(self.desk),
        )
        self.admin_room = Room(config.limit)
        self.admin = Gate(
            admin_app(self.desk, self.room),
            self.meters,
            self.admin_room,
            token=admin_token,
            max_body=max_body,
            host=config.admin_host,
        )

    def run(self, started: Started = _say_nothing) -> None:
        """Serve until SIGTERM, then drain; until SIGINT, without delay."""
        sys.setswitchinterval(SWITCH_SECONDS)
        factory = uvicorn.Config(self.public, loop="auto").get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._until_signal(started))

    async def _until_signal(self, started: Started) -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.ask, self.config.drain_seconds)
        loop.add_signal_handler(signal.SIGINT, stop.ask, 0.0)
        await self.serve(stop, started)

    async def serve(self, stop: "Stop", started: Started = _say_nothing) -> None:
        """Serve until `stop` is asked for; then close everything."""
        config, live = self.config, self.service.live
        if live.follows and config.refresh_seconds:
            live.watch(config.refresh_seconds, after=self.meters.swaps.labels("watched").inc)
        public = self._listener(self.public, self.room, config.host, config.port)
        admin = self._listener(self.admin, self.admin_room, config.admin_host, config.admin_port)
        listeners = (public, admin)
        sockets = [shared_socket(config)] if config.reuse_port else None
        tasks = [asyncio.create_task(public.serve(sockets)), asyncio.create_task(admin.serve())]
        asked = asyncio.create_task(stop.asked.wait())
        try:
            while not all(one.started for one in listeners) and not any(map(_done, tasks)):
                await asyncio.sleep(0.005)
            if all(one.started for one in listeners):
                started(_address(public), _address(admin))
                write_line(event="started", public=_address(public), admin=_address(admin))
                await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
                await self._drain(stop)
            for listener, task in zip(listeners, tasks, strict=True):
                listener.should_exit = True
                await task
        finally:
            asked.cancel()
            await asyncio.to_thread(self.desk.close)
            await asyncio.to_thread(self.service.close)
            write_line(event="stopped")

    async def _drain(self, stop: "Stop") -> None:
        """Keep answering while whoever balances the load learns that this server goes away."""
        self.room.draining = True
        write_line(event="draining", seconds=stop.drain_seconds)
        end = time.monotonic() + stop.drain_seconds
        while time.monotonic() < end and not stop.at_once:
            await asyncio.sleep(0.02)

    def _listener(self, app: ASGIApp, room: Room, host: str, port: int) -> Listener:
        protocol: Any = partial(Protocol, refusals=Refusals(room, self.meters))
        return Listener(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=protocol,
                lifespan="off",
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_keep_alive=75,
            )
        )


def shared_socket(config: ServeConfig) -> socket.socket:
    """A socket at the public address that other processes may share: the kernel spreads the
    connections over those that listen. Raises InputError where it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((config.host, config.port))
    except OSError as error:
        bound.close()
        raise InputError(f"{config.host}:{config.port} cannot be listened at: {error}") from error
    return bound


def _done(task: asyncio.Task) -> bool:
    return task.done()


def _address(listener: Listener) -> str:
    host, port = listener.servers[0].sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_store(config: ServeConfig) -> HistoryStore | None:
    """The store that `state` names, guarded; None where it names none. Raises StateError for a
    file that cannot be opened; a Redis that is down may come later.
    """
    if not config.state:
        return None
    timeout, ttl = config.state_timeout_ms / 1_000, config.history_days * 86_400
    if "://" in config.state:
        from serving.history_redis import RedisHistory  # noqa: PLC0415 - an extra

        store: HistoryStore = RedisHistory(
            config.state, cap=config.history_cap, ttl=ttl, timeout=timeout
        )
    else:
        store = SQLiteHistory(Path(config.state), cap=config.history_cap, ttl=ttl, timeout=timeout)
    return GuardedHistory(store)


def open_indexes(config: ServeConfig) -> RemoteIndexes | None:
    """The server that `index` names; None where it names none. Not connected to yet."""
    if not config.index:
        return None
    from serving.remote_index import QdrantIndexes  # noqa: PLC0415 - an extra

    key = os.environ.get("RECSYS_INDEX_KEY")
    return QdrantIndexes(config.index, api_key=key, timeout=config.index_timeout_s)


def open_service(bundle: Path, config: ServeConfig, compare: Path | None = None) -> Service:
    """Everything a server needs, loaded. bundle: a bundle, or a registry whose CURRENT is followed.
    compare: another, for the playground. Raises BundleError or StateError.
    """
    journal = Path(config.items) if config.items else None
    is_registry = (bundle / VERSIONS).is_dir()
    indexes = open_indexes(config)
    live = (Live.of_registry if is_registry else Live.of_bundle)(bundle, journal, indexes)
    compared = None if compare is None else Live.of_bundle(compare)
    live.recommender.recommend((), k=1)  # the first answer pays for what is made once
    exposures = feedback = None
    store = open_store(config)
    if config.log:
        directory = Path(config.log)
        exposures = open_exposures(directory, seconds=config.log_seconds)
        feedback = open_feedback(directory, seconds=config.log_seconds)
    return Service(live, store, exposures, feedback, compared)
