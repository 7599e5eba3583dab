"""Long runs by hand: memory over many requests and swaps, and every single byte of a bundle."""

import gc
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.bundle import open_bundle
from serving.errors import BundleError, ServingError
from serving.handle import ServingHandle
from serving.options import Options
from serving.policy_spec import MMR, Epsilon, PolicySpec, Quota, ValueRule
from serving.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]


def resident() -> int:
    """Bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


POLICIES = [
    None,
    PolicySpec(diversity=MMR(weight=0.3), window=30),
    PolicySpec(quotas=(Quota(column="genre", at_most=2),), exploration=Epsilon()),
    PolicySpec(rules=(ValueRule(column="genre", values=("drama",)),), exclude_seen=False),
]


def ask(handle: ServingHandle, rng: np.random.Generator, number: int) -> None:
    """One of many kinds of request, wrong ones among them."""
    history = (10 * rng.integers(0, 70, int(rng.integers(0, 40)))).tolist()
    recommender = handle.recommender
    if number % 50 == 0:
        recommender.explain(history, k=5)
    elif number % 17 == 0:
        try:
            recommender.recommend([*history, "x"], k=5)
        except ServingError:
            return
    else:
        options = Options(policy=POLICIES[number % 4], request_id=str(number))
        deny = [10 * number % 600] if number % 5 == 0 else None
        recommender.recommend(history, k=int(rng.integers(1, 60)), deny=deny, options=options)


def test_memory_does_not_grow_over_requests_and_swaps(
    tmp_path: Path, make_toy: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """1e5 mixed requests and 100 swaps; the slope is fitted to the second half."""
    bundles = [
        make_toy(tmp_path / str(n), num_items=50 + n, attributes=True).path for n in range(2)
    ]
    registry = Registry(tmp_path / "registry")
    registry.publish(bundles[0], canary=False)
    handle = ServingHandle.open(registry.path, canary=False)
    rng = np.random.default_rng(0)
    marks = []
    for swap in range(100):
        for number in range(1_000):
            ask(handle, rng, number)
        registry.publish(bundles[(swap + 1) % 2], canary=False)
        assert handle.refresh()
        registry.collect(keep=2, keep_days=0)
        gc.collect()
        marks.append(resident())
    assert handle.status.swaps == 100
    half = np.array(marks[50:]) / 1024
    slope = float(np.polyfit(np.arange(50) * 1_000, half, 1)[0] * 1024)
    with capsys.disabled():
        print(
            f"\nRSS {marks[0] >> 20} MiB after 1,000, {marks[49] >> 20} after 50,000, "
            f"{marks[-1] >> 20} after 100,000 requests; slope {slope:+.1f} bytes a request"
        )
    assert marks[-1] - marks[49] < 8 << 20
    assert slope < 100


def test_every_flipped_byte_and_every_truncation_is_refused(
    tmp_path: Path, toy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(toy.path, bundle)
    flips = cuts = 0
    for path in sorted(bundle.iterdir()):
        path.chmod(0o644)
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with pytest.raises(BundleError):
                open_bundle(bundle)
            flips += 1
        for length in range(0, len(whole), 97):
            path.write_bytes(whole[:length])
            with pytest.raises(BundleError):
                open_bundle(bundle)
            cuts += 1
        path.write_bytes(whole)
    open_bundle(bundle)
    with capsys.disabled():
        print(f"\n{flips} flipped bytes and {cuts} truncations, all refused")


def test_latency_while_swapping(
    tmp_path: Path, make_toy: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """25 swaps under one client at full speed; p99 of the requests during them, and without."""
    bundles = [make_toy(tmp_path / str(n), num_items=5_000 + n, dim=32).path for n in range(2)]
    registry = Registry(tmp_path / "registry")
    registry.publish(bundles[0], canary=False)
    handle = ServingHandle.open(registry.path, canary=False)
    items_of = {open_bundle(path).version: open_bundle(path).manifest.num_items for path in bundles}

    def load(stop: threading.Event, took: list[float]) -> None:
        while not stop.is_set():
            started = time.thread_time_ns()
            answer = handle.recommender.recommend([10, 500, 2_000], k=10, exclude_seen=False)
            took.append((time.thread_time_ns() - started) / 1e6)
            assert answer.bundle_version in items_of

    figures = []
    for swaps in (0, 25):
        stop, took = threading.Event(), []
        worker = threading.Thread(target=load, args=(stop, took))
        worker.start()
        if not swaps:
            time.sleep(5)
        for number in range(swaps):
            registry.publish(bundles[(number + 1) % 2], canary=False)
            assert handle.refresh()
        stop.set()
        worker.join()
        figures.append(np.quantile(took, [0.5, 0.99]))
    with capsys.disabled():
        print(
            f"\nsteady p50 {figures[0][0]:.2f} p99 {figures[0][1]:.2f} ms, "
            f"swapping p50 {figures[1][0]:.2f} p99 {figures[1][1]:.2f} ms (thread time)"
        )
    assert handle.status.swaps == 25
    assert figures[1][1] < 2 * figures[0][1]
