"""Swaps, roll-backs and changes of items over HTTP, while requests go on."""

import json
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import serving.canary
import serving.handle
from serving.errors import BundleError
from serving.live import Live
from serving.recommender import Recommender
from serving.registry import Registry

Start = Callable[..., Any]
BUNDLE = Path(__file__).parents[2] / "bundles" / "v1"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = Registry(tmp_path / "registry")
    found.publish(BUNDLE, canary=False)
    return found


@pytest.fixture
def live(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Live:
    """Follows the registry; the child processes of its canary are the tests' own."""
    monkeypatch.setattr(serving.handle, "try_bundle", lambda path: serving.canary.Trial(0, 0.0))
    return Live.of_registry(registry.path)


def test_a_swap_under_load_drops_nothing_and_mixes_nothing(
    start: Start, registry: Registry, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a machine that stalls for a second must not answer "not_ranked", which is another list
    running = start(live=live, refresh_seconds=0.0, queue=64, deadline_ms=60_000.0)
    done, found = Event(), []

    def ask() -> None:
        while not done.is_set():
            answer = running.public.post("/v1/recommend", {"history": ["P00044"], "k": 3})
            found.append((answer.status, answer.json))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for _ in range(3):
            registry.publish(BUNDLE, canary=False)
            told = running.admin.post("/v1/refresh", {})
            assert (told.status, told.json["swapped"]) == (200, True), told.body
        back = running.admin.post("/v1/rollback", {})
        assert back.json["release"].startswith("000003-")
        done.set()
        for one in asking:
            one.result()
    assert found
    assert {status for status, _ in found} == {200}
    assert len({json.dumps(answer["items"]) for _, answer in found}) == 1
    assert running.admin.get("/status").json["swaps"] == 4
    metrics = running.admin.get("/metrics").body.decode()
    assert 'recsys_swaps_total{outcome="swapped"} 4.0' in metrics


def test_twenty_five_swaps_between_two_bundles_under_load(
    start: Start, tmp_path: Path, make_toy: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is whole: what its version alone would have said."""
    monkeypatch.setattr(serving.handle, "try_bundle", lambda path: serving.canary.Trial(0, 0.0))
    bundles = [make_toy(tmp_path / str(n), num_items=50 + n, dim=6 + n).path for n in range(2)]
    expected: dict[str, list[int]] = {}
    for path in bundles:
        answer = Recommender.load(path).recommend([10, 20], k=5, exclude_seen=False)
        expected[answer.bundle_version] = [item.item_id for item in answer.items]  # type: ignore
    assert len({tuple(items) for items in expected.values()}) == 2
    registry = Registry(tmp_path / "two")
    registry.publish(bundles[0], canary=False)
    running = start(live=Live.of_registry(registry.path), refresh_seconds=0.0, queue=64)
    done, found = Event(), []

    def ask() -> None:
        message = {"history": [10, 20], "k": 5, "exclude_seen": False}
        while not done.is_set():
            answer = running.public.post("/v1/recommend", message)
            told = answer.json
            items = [item["item_id"] for item in told.get("items", ())]
            found.append((answer.status, told.get("bundle_version"), items))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for swap in range(25):
            registry.publish(bundles[(swap + 1) % 2], canary=False)
            assert running.admin.post("/v1/refresh", {}).json["swapped"]
        done.set()
        for one in asking:
            one.result()
    assert running.admin.get("/status").json["swaps"] == 25
    assert {status for status, _, _ in found} == {200}
    assert {version for _, version, _ in found} == set(expected), "both have answered"
    mixed = [version for _, version, items in found if items != expected[version]]
    assert not mixed, f"{len(mixed)} of {len(found)}"


def test_the_pointer_is_watched(start: Start, registry: Registry, live: Live) -> None:
    running = start(live=live, refresh_seconds=0.05)
    registry.publish(BUNDLE, canary=False)
    while running.admin.get("/status").json["swaps"] == 0:
        pass
    assert running.admin.get("/status").json["release"].startswith("000002-")


def test_a_bundle_that_crashes_its_process_never_reaches_the_server(
    start: Start, registry: Registry, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies of SIGSEGV, as it does of a truncated model file."""

    def crash(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        code = f"import os, signal; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
        return real(["python3", "-c", code], **options)

    real = subprocess.run
    monkeypatch.setattr(serving.handle, "try_bundle", serving.canary.try_bundle)
    monkeypatch.setattr(serving.canary.subprocess, "run", crash)
    running = start(live=live, refresh_seconds=0.0)
    before = running.public.post("/v1/recommend", {"history": ["P00044"]}).json["items"]
    registry.publish(BUNDLE, canary=False)
    told = running.admin.post("/v1/refresh", {})
    assert (told.status, told.json["swapped"]) == (200, False)
    assert told.json["refused"].startswith("000002-")
    assert "SIGSEGV" in told.json["reason"]
    assert told.json["release"].startswith("000001-")
    found = running.public.post("/v1/recommend", {"history": ["P00044"]})
    assert found.json["items"] == before
    assert running.public.get("/readyz").status == 200
    metrics = running.admin.get("/metrics").body.decode()
    assert 'recsys_swaps_total{outcome="refused"} 1.0' in metrics


def test_a_damaged_release_is_refused_and_told(
    start: Start, registry: Registry, live: Live
) -> None:
    running = start(live=live, refresh_seconds=0.0)
    release, _ = registry.publish(BUNDLE, canary=False)
    path = registry.directory(release.version) / "model.vectors.npy"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    told = running.admin.post("/v1/refresh", {}).json
    assert not told["swapped"]
    assert "damaged" in told["reason"]


def test_a_single_bundle_has_nothing_to_swap_to(start: Start) -> None:
    running = start()
    for path in ("/v1/refresh", "/v1/rollback"):
        refused = running.admin.post(path, {})
        assert (refused.status, refused.json["error"]) == (409, "unavailable")
        assert "registry" in refused.json["message"]


def test_no_path_of_a_request_is_ever_opened(start: Start, live: Live) -> None:
    running = start(live=live, refresh_seconds=0.0)
    for version in ("../../etc/passwd", "/etc/passwd", "..", ""):
        found = running.admin.post("/v1/rollback", {"version": version})
        assert found.status in (409, 422), version


def test_retired_items_stay_away_after_a_swap_and_a_start(
    start: Start, registry: Registry, live: Live, tmp_path: Path
) -> None:
    journal = tmp_path / "items.jsonl"
    running = start(live=Live.of_registry(registry.path, journal), refresh_seconds=0.0)

    def best() -> list[str]:
        found = running.public.post("/v1/recommend", {"history": ["P00044"]}).json["items"]
        return [item["item_id"] for item in found]

    first = best()[0]
    told = running.admin.post("/v1/items/retire", {"item_ids": [first, "never heard of"]})
    assert told.json["count"] == 1
    assert first not in best()
    registry.publish(BUNDLE, canary=False)
    assert running.admin.post("/v1/refresh", {}).json["swapped"]
    assert first not in best(), "the change outlives the bundle"
    with journal.open("a") as stream:
        stream.write('{"retire": ["P0')  # a kill in the middle of a line
    again = Live.of_registry(registry.path, journal)
    answer = again.recommender.recommend(["P00044"])
    assert first not in [item.item_id for item in answer.items]
    assert journal.read_text().endswith("]}\n")
    again.close()


def test_a_damaged_journal_is_an_error_not_a_loss(tmp_path: Path, recommender: Recommender) -> None:
    journal = tmp_path / "items.jsonl"
    journal.write_text('{"retire": \n{"retire": []}\n')
    with pytest.raises(BundleError, match="damaged"):
        Live(recommender, None, journal)


def test_changes_that_do_not_fit_are_refused(start: Start) -> None:
    admin = start().admin
    assert admin.post("/v1/items/retire", {"item_ids": [7]}).status == 422
    assert admin.post("/v1/items/add", {"items": [{"title": "no id"}]}).status == 422
    assert admin.post("/v1/items/add", {"items": []}).status == 422
