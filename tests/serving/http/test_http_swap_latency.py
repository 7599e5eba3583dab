"""By hand: answers over HTTP while bundles are swapped, beside answers while nothing changes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serving.canary
import serving.handle
from serving.live import Live
from serving.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SWAPS, CLIENTS = 25, 2


def test_answers_stay_quick_during_swaps(
    start: Callable[..., Any],
    tmp_path: Path,
    make_toy: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A swap every quarter of a second; the same time and load without, before and after."""
    monkeypatch.setattr(serving.handle, "try_bundle", lambda path: serving.canary.Trial(0, 0.0))
    bundles = [make_toy(tmp_path / str(n), num_items=5_000 + n, dim=32).path for n in range(2)]
    registry = Registry(tmp_path / "registry")
    registry.publish(bundles[0], canary=False)
    running = start(live=Live.of_registry(registry.path), refresh_seconds=0.0, queue=64)

    def load(done: threading.Event, took: list[float]) -> None:
        while not done.is_set():
            began = time.perf_counter()
            assert (
                running.public.post("/v1/recommend", {"history": [10, 500], "k": 10}).status == 200
            )
            took.append((time.perf_counter() - began) * 1e3)

    figures = []
    for swapping in (False, True, False):
        done, took = threading.Event(), []
        clients = [threading.Thread(target=load, args=(done, took)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for swap in range(SWAPS):
            if swapping:
                registry.publish(bundles[(swap + 1) % 2], canary=False)
                assert running.admin.post("/v1/refresh", {}).json["swapped"]
            time.sleep(0.25)
        done.set()
        for client in clients:
            client.join()
        figures.append((len(took), *np.quantile(took, [0.5, 0.99])))
    with capsys.disabled():
        for name, (count, p50, p99) in zip(("before", "swapping", "after"), figures, strict=True):
            print(f"\n{name}: {count} answers, p50 {p50:.2f} ms, p99 {p99:.2f} ms", end="")
    steady = max(figures[0][2], figures[2][2])
    assert figures[1][2] <= 2 * steady
