"""Who gets in, how much fits, and what happens when there is no room or no more time."""

import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from features.errors import InputError
from serving.http.config import ServeConfig
from serving.http.journal import Pseudonyms
from serving.http.server import Server
from serving.live import Live
from serving.recommender import Recommender
from serving.service import Service

Start = Callable[..., Any]


class Slow:
    """A recommender that takes its time, or fails as told."""

    def __init__(self, real: Recommender, seconds: float = 0.0) -> None:
        self._real, self.seconds, self.error = real, seconds, None
        self.calls, self.let_go = 0, threading.Event()
        self.let_go.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recommend(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        assert self.let_go.wait(20)
        if self.error is not None:
            raise self.error
        return self._real.recommend(*arguments, **options)


def test_a_token_is_needed_where_there_is_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_TOKEN", "secret")
    running = start()
    for path in ("/v1/recommend", "/openapi.json", "/nothing"):
        refused = running.public.post(path, {})
        assert (refused.status, refused.json["error"]) == (401, "unauthorised")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert running.admin.get("/metrics").status == 401, "the admin listener takes the same token"
    assert running.public.get("/healthz").status == 200, "health is open to anybody"
    assert running.public.get("/readyz").status == 200
    for wrong in ("Bearer secre", "Bearer secret2", "secret", "Basic secret", ""):
        assert running.public.post("/v1/recommend", {}, Authorization=wrong).status == 401
    running.public.token = running.admin.token = "secret"
    assert running.public.post("/v1/recommend", {}).status == 200
    assert running.admin.get("/metrics").status == 200


@pytest.mark.parametrize("listener", ["host", "admin_host"])
def test_beyond_this_machine_a_token_is_a_must(
    recommender: Recommender, listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServeConfig(**{listener: "0.0.0.0"})
    with pytest.raises(InputError, match="RECSYS_TOKEN"):
        Server(Service(Live(recommender)), config)
    monkeypatch.setenv("RECSYS_TOKEN", "secret")
    Server(Service(Live(recommender)), config).desk.close()


def test_a_web_page_cannot_reach_a_server_on_loopback(module_server: Any) -> None:
    public = module_server.public
    rebound = public.post("/v1/recommend", {}, Host="evil.example")
    assert rebound.status == 421
    form = public.post("/v1/recommend", {}, Content_Type="text/plain")
    assert form.status == 415, "without it a form of any page could post"
    for host in ("localhost", "localhost:80", "[::1]:80", "127.0.0.1"):
        assert public.post("/v1/recommend", {}, Host=host).status == 200


def test_admin_and_public_do_not_mix(module_server: Any) -> None:
    assert module_server.public.get("/metrics").status == 404
    assert module_server.admin.post("/v1/recommend", {}).status == 404


def test_a_body_beyond_the_cap_is_refused_however_it_comes(start: Start) -> None:
    running = start(max_body_kib=16)
    large = b'{"user_id":"' + b"x" * 20_000 + b'"}'
    assert running.public.post("/v1/recommend", large).status == 413
    parts = urlsplit(running.public.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    chunks = (b"x" * 1_000 for _ in range(1_000))
    kind = {"Content-Type": "application/json"}
    with contextlib.suppress(ConnectionError):  # it may stop reading while we still send
        connection.request("POST", "/v1/recommend", chunks, kind, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_no_room_is_told_at_once_and_the_taken_are_answered(
    start: Start, recommender: Recommender
) -> None:
    slow = Slow(recommender)
    slow.let_go.clear()
    running = start(recommender=slow, threads=1, queue=1)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(running.public.post, "/v1/recommend", {}) for _ in range(12)]
        while sum(one.done() for one in asked) < 10:
            time.sleep(0.005)
        slow.let_go.set()
        found = [one.result() for one in asked]
    statuses = [one.status for one in found]
    assert sorted(statuses) == [200] * 2 + [503] * 10
    assert slow.calls == 2, "what is refused costs the model nothing"
    refused = next(one for one in found if one.status == 503)
    assert (refused.json["error"], refused.headers["retry-after"]) == ("overload", "1")
    metrics = running.admin.get("/metrics").body.decode()
    assert "recsys_shed_total 10.0" in metrics
    assert "recsys_in_flight 0.0" in metrics
    assert running.public.post("/v1/recommend", {}).status == 200, "room again"


def test_a_fault_of_ours_tells_nothing_and_is_counted(
    start: Start, recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(recommender)
    slow.error = RuntimeError("a secret of the house")
    running = start(recommender=slow)
    found = running.public.post("/v1/recommend", {}, X_Request_Id="mine-1")
    assert (found.status, found.json["error"]) == (500, "bug")
    assert b"secret" not in found.body
    assert found.json["request_id"] == found.headers["x-request-id"] == "mine-1"
    assert "a secret of the house" in caplog.text
    metrics = running.admin.get("/metrics").body.decode()
    assert 'recsys_responses_total{route="recommend",status="500"} 1.0' in metrics


def test_lines_are_json_and_name_no_user(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recsys.serve")
    running = start()
    for _ in range(2):
        running.public.post("/v1/recommend", {"user_id": "ada@example.org", "k": 3})
    running.admin.get("/healthz")  # the line is written once the answer is out
    records = [record for record in caplog.records if record.name == "recsys.serve"]
    lines = [json.loads(record.message) for record in records]
    told = [line for line in lines if line.get("route") == "recommend"]
    assert len(told) == 2
    assert told[0]["status"] == 200
    assert told[0]["degraded"] == ["no_history"]
    assert told[0]["ms"] > 0
    assert "ada@" not in caplog.text
    assert told[0]["user"] == told[1]["user"], "lines of one user can be joined"
    assert Pseudonyms().of("ada") != Pseudonyms().of("ada"), "another process, another key"


def test_a_client_that_goes_away_harms_nobody(
    start: Start, recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(recommender=Slow(recommender, 0.1), threads=1)
    parts = urlsplit(running.public.address)
    head = "POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for sent in ("Content-Length: 2\r\n\r\n{}", "Content-Length: 2\r\n\r\n{", "Content-Le"):
        for _ in range(3):
            with socket.create_connection((parts.hostname, parts.port)) as connection:
                connection.sendall((head + sent).encode())
    time.sleep(0.5)
    assert running.public.post("/v1/recommend", {}).status == 200
    assert "recsys_in_flight 0.0" in running.admin.get("/metrics").body.decode()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_end_is_in_order(start: Start, recommender: Recommender) -> None:
    running = start(recommender=Slow(recommender, 0.5), threads=2)
    with ThreadPoolExecutor(2) as pool:
        inside = pool.submit(running.public.post, "/v1/recommend", {})
        time.sleep(0.1)
        running.stop(1.5)
        time.sleep(0.1)
        ready = running.public.get("/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False), "not ready comes first"
        late = pool.submit(running.public.post, "/v1/recommend", {})
        assert inside.result().status == 200
        assert late.result().status == 200, "while it drains it answers"
    running.thread.join(5)
    assert not running.thread.is_alive()
    with pytest.raises(ConnectionError):
        running.public.get("/healthz")


def test_draining_tells_clients_to_connect_elsewhere(start: Start) -> None:
    running = start()
    assert running.public.get("/healthz").headers.get("connection") != "close"
    running.server.room.draining = True
    assert running.public.get("/healthz").headers["connection"] == "close"


def test_threads_do_not_wait_for_each_other(start: Start, recommender: Recommender) -> None:
    running = start(recommender=Slow(recommender, 0.5), threads=4)
    barrier = threading.Barrier(4)

    def ask() -> int:
        barrier.wait()
        return running.public.post("/v1/recommend", {}).status

    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(ask) for _ in range(4)]] == [200] * 4
    assert time.monotonic() - started < 1.9
