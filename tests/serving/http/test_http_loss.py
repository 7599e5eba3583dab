"""Redis stopped and frozen under load, and bodies of every shape: answers go on."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.breaker import GuardedHistory
from serving.history import Event as Past
from serving.history_redis import RedisHistory

NAMES = ["user_id", "history", "k", "at", "allow", "deny", "shown", "segment", "policy", "events"]
NAMES += ["deadline_ms", "exclude_seen", "columns", "item_id", "bundle", "request_id", "timestamp"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["P00044", "compared", "2025-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
)
BODIES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
PATHS = [f"/v1/{name}" for name in ("recommend", "similar", "explain", "events", "forget")]


@pytest.mark.parametrize("way", ["stop", "freeze"])
def test_redis_is_lost_under_load_and_answers_go_on(
    start: Callable[..., Any], redis_server: Any, way: str
) -> None:
    store = RedisHistory(redis_server.url, prefix=f"{way}:", timeout=0.1)
    store.append("ada", [Past("P00044", 1, "click")])
    running = start(store=GuardedHistory(store, cooldown=0.2), queue=64)
    done, found = Event(), []

    def ask() -> None:
        while not done.is_set():
            answer = running.public.post("/v1/recommend", {"user_id": "ada", "k": 3})
            found.append((answer.status, tuple(answer.json["degraded"])))

    def wait_for(reasons: tuple[str, ...]) -> None:
        deadline = time.monotonic() + 20
        while not found or found[-1][1] != reasons:
            assert time.monotonic() < deadline, found[-1:]
            time.sleep(0.01)

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            wait_for(())
            getattr(redis_server, way)()
            wait_for(("state", "no_history"))
            redis_server.thaw() if way == "freeze" else redis_server.start()
            wait_for(() if way == "freeze" else ("no_history",))
        finally:
            done.set()
        for one in asking:
            one.result()
    assert {status for status, _ in found} == {200}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), body=BODIES)
def test_no_body_is_a_fault_of_ours(module_server: Any, path: str, body: Any) -> None:
    found = module_server.public.post(path, json.dumps(body).encode())
    assert found.status in (200, 400, 404, 422, 503, 504), (found.status, found.body)
    assert found.status != 503 or found.json["error"] == "state", "events without a store"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=200))
def test_no_bytes_are_a_fault_of_ours(module_server: Any, path: str, body: bytes) -> None:
    found = module_server.public.post(path, body)
    assert found.status in (200, 400, 404, 422), (found.status, found.body)
