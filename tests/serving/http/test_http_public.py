"""The public listener answers as the library does, and refuses what it must in one sentence."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.breaker import GuardedHistory
from serving.exposures import open_exposures, open_feedback, read_exposures
from serving.history import Event, SQLiteHistory
from serving.recommender import Recommender

Start = Callable[..., Any]
HISTORY = ["P00044", "P00087", "P00090"]
AT = 1_750_000_000_000_000


def test_an_answer_is_the_library_s(start: Start, recommender: Recommender) -> None:
    found = start().public.post("/v1/recommend", {"history": HISTORY, "k": 7, "at": AT})
    expected = recommender.recommend(HISTORY, k=7, at=AT)
    assert found.status == 200
    assert [item["item_id"] for item in found.json["items"]] == [
        item.item_id for item in expected.items
    ]
    assert [item["score"] for item in found.json["items"]] == pytest.approx(
        [item.score for item in expected.items]
    )
    assert found.json["bundle_version"] == recommender.bundle_version
    assert found.json["at"] == AT
    assert found.json["degraded"] == []
    assert found.headers["x-request-id"] == found.json["request_id"]


def test_moments_and_behaviours_reach_the_library(start: Start, recommender: Recommender) -> None:
    past = [
        {"item_id": "P00044", "timestamp": "2025-06-01T00:00:00Z", "event": "click"},
        {"item_id": "P00087", "timestamp": 1_748_822_400_000_000},
    ]
    found = start().public.post("/v1/recommend", {"history": past, "at": "2025-07-01T00:00:00Z"})
    assert found.status == 200, found.body
    default = recommender.schema.target_events[0]
    history = [
        ("P00044", 1_748_736_000_000_000, "click"),
        ("P00087", 1_748_822_400_000_000, default),
    ]
    expected = recommender.recommend(history, at=1_751_328_000_000_000)
    assert [item["item_id"] for item in found.json["items"]] == [
        item.item_id for item in expected.items
    ]


def test_filters_reach_the_library(start: Start) -> None:
    public = start().public
    allowed = ["P00001", "P00002", "P00003", "P00044"]
    message = {"history": HISTORY, "allow": allowed, "deny": ["P00001"], "exclude_seen": False}
    found = public.post("/v1/recommend", message).json
    assert {item["item_id"] for item in found["items"]} == {"P00002", "P00003", "P00044"}


def test_events_become_the_history_of_the_next_answer(
    start: Start, recommender: Recommender, tmp_path: Path
) -> None:
    running = start(store=SQLiteHistory(tmp_path / "state.db", timeout=5.0))
    past = [{"item_id": item, "timestamp": AT + n} for n, item in enumerate(HISTORY)]
    done = running.public.post("/v1/events", {"user_id": "ada", "events": past})
    assert (done.status, done.json["count"], done.json["degraded"]) == (200, 3, [])
    found = running.public.post("/v1/recommend", {"user_id": "ada", "at": AT + 10}).json
    event = recommender.schema.target_events[0]
    history = [(item, AT + n, event) for n, item in enumerate(HISTORY)]
    expected = recommender.recommend(history, at=AT + 10)
    assert [item["item_id"] for item in found["items"]] == [item.item_id for item in expected.items]
    assert running.public.post("/v1/forget", {"user_id": "ada"}).status == 200
    assert running.public.post("/v1/recommend", {"user_id": "ada"}).json["degraded"] == [
        "no_history"
    ]


def test_what_an_earlier_bundle_stored_is_read_as_far_as_it_goes(
    start: Start, tmp_path: Path
) -> None:
    store = SQLiteHistory(tmp_path / "state.db", timeout=5.0)
    store.append(
        "ada", [Event(7, 1, "click"), Event("P00044", 2, "gone"), Event("P00087", 3, "click")]
    )
    found = start(store=store).public.post("/v1/recommend", {"user_id": "ada"})
    assert (found.status, found.json["degraded"]) == (200, [])


def test_similar_items(start: Start, recommender: Recommender) -> None:
    public = start().public
    found = public.post("/v1/similar", {"item_id": "P00044", "k": 4, "columns": True})
    expected = recommender.similar_items("P00044", k=4)
    assert [item["item_id"] for item in found.json["items"]] == [
        item.item_id for item in expected.items
    ]
    assert found.json["items"][0]["columns"]["title"] == expected.items[0].title
    absent = public.post("/v1/similar", {"item_id": "nothing"})
    assert (absent.status, absent.json["error"]) == (404, "not_found")


REFUSED = {
    "not JSON": (b"{", 400),
    "not UTF-8": (b'{"user_id":"\xff"}', 400),
    "half a surrogate": (b'{"user_id":"\\ud800"}', 400),
    "nested beyond reason": (b'{"policy":{"x":' + b"[" * 15_000, 400),
    "an unknown field": ({"histroy": []}, 422),
    "a wrong type": ({"history": [1.5]}, 422),
    "ids of another type than the bundle's": ({"history": [1]}, 422),
    "an id beyond 64 bits": (b'{"history":[99999999999999999999]}', 422),
    "k of nothing": ({"k": 0}, 422),
    "k beyond the limit": ({"k": 1_001}, 422),
    "not a number": (b'{"deadline_ms":NaN}', 400),
    "an infinite deadline": (b'{"deadline_ms":1e999}', 422),
    "a moment before the history": (
        {"history": [{"item_id": "P00044", "timestamp": 9}], "at": 1},
        422,
    ),
    "a history out of order": (
        {"history": [{"item_id": "P00044", "timestamp": t} for t in (9, 1)]},
        422,
    ),
    "an unknown behaviour": (
        {"history": [{"item_id": "P00044", "timestamp": 1, "event": "zzz"}]},
        422,
    ),
    "entries not alike": ({"history": ["P00044", {"item_id": "P00044", "timestamp": 1}]}, 422),
}


@pytest.fixture(scope="module")
def refusing(module_server: Any) -> Any:
    return module_server.public


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_refused_in_a_sentence(refusing: Any, case: str) -> None:
    message, status = REFUSED[case]
    found = refusing.post("/v1/recommend", message)
    assert found.status == status, found.body
    assert found.json["error"] == "request"
    assert found.json["message"]


def test_unknown_items_and_users_are_no_error(refusing: Any) -> None:
    unknown = refusing.post("/v1/recommend", {"history": ["nobody knows it"]}).json
    assert unknown["degraded"] == ["unknown_items"]
    assert unknown["unknown"] == 1
    assert len(unknown["items"]) == 10
    assert refusing.post("/v1/recommend", {"user_id": "new"}).json["degraded"] == ["no_history"]


def test_events_without_a_store_are_refused_not_lost(refusing: Any) -> None:
    message = {"user_id": "ada", "events": [{"item_id": "P00044", "timestamp": 1}]}
    found = refusing.post("/v1/events", message)
    assert (found.status, found.json["error"]) == (503, "state")
    assert found.headers["retry-after"] == "1"


def test_a_lost_store_shows_in_the_answer(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SQLiteHistory(path)
    store.append("ada", [Event("P00044", 1, "click")])
    store.close()
    broken = SQLiteHistory(path)
    running = start(store=GuardedHistory(broken))
    assert running.public.post("/v1/recommend", {"user_id": "ada"}).json["degraded"] == []
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    broken.close()
    broken.path = tmp_path / "absent" / "state.db"
    broken._local = threading.local()
    found = running.public.post("/v1/recommend", {"user_id": "ada"})
    assert found.status == 200
    assert found.json["degraded"] == ["state", "no_history"]
    assert len(found.json["items"]) == 10
    ready = running.public.get("/readyz")
    assert (ready.status, ready.json["degraded"]) == (200, ["state"])
    metrics = running.admin.get("/metrics").body.decode()
    assert 'recsys_degraded_total{reason="state"} 1.0' in metrics


def test_what_was_shown_and_what_came_back_is_logged(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = start(exposures=open_exposures(log), feedback=open_feedback(log))
    shown = running.public.post("/v1/recommend", {"user_id": "ada", "history": HISTORY}).json
    best = shown["items"][0]["item_id"]
    event = {"item_id": best, "timestamp": shown["at"] + 5_000_000, "event": "click"}
    message = {"user_id": "ada", "events": [event], "request_id": shown["request_id"]}
    done = running.public.post("/v1/events", message)
    assert (done.status, done.json["degraded"]) == (200, ["state"])
    running.stop(0.0)
    running.thread.join(20)
    found = read_exposures(log, {"click": 1.0})
    assert found["item_id"].to_list() == [item["item_id"] for item in shown["items"]]
    assert found["reward"].to_list() == [1.0] + [0.0] * 9
    assert set(found["user_id"]) == {"ada"}


def test_the_document_describes_the_messages(refusing: Any) -> None:
    document = refusing.get("/openapi.json").json
    schemas = document["components"]["schemas"]
    assert {"RecommendRequest", "Answer", "Fault", "Past"} <= schemas.keys()
    assert schemas["RecommendRequest"]["additionalProperties"] is False
    body = document["paths"]["/v1/recommend"]["post"]["requestBody"]["content"]
    assert body["application/json"]["schema"]["$ref"].endswith("/RecommendRequest")
    assert "RollbackRequest" not in schemas, "what the public listener does not take"
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == schemas.keys() - {"HTTPValidationError", "ValidationError"}
