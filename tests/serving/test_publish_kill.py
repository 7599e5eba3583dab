"""SIGKILL at moments the clock picks: whatever was being published, a reader finds a whole version.

A child publishes two bundles in turn for as long as it lives. After each kill CURRENT must open,
its content must be one of the two, and versions must never go back.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.bundle import open_bundle
from serving.errors import BundleError
from serving.handle import ServingHandle
from serving.registry import Registry

CHILD = """
import sys
from pathlib import Path
from serving.registry import Registry

registry = Registry(Path(sys.argv[1]))
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    registry.publish(Path(sys.argv[2 + turn % 2]), canary=False)
    if turn % 5 == 0:
        registry.collect(keep=2, keep_days=0)
"""


def kill_loop(root: Path, bundles: list[Path], kills: int) -> tuple[int, int, int]:
    """Kills, versions published in all, orphans seen; asserts after each kill."""
    registry = Registry(root)
    started = time.monotonic()
    registry.publish(bundles[0], canary=False)
    pace = 3 * (time.monotonic() - started)  # a kill falls into one of the first publishes
    contents = {open_bundle(path).sha256 for path in bundles}
    rng = np.random.default_rng(0)
    before, orphans = registry.current().version, 0
    for _ in range(kills):
        command = [sys.executable, "-c", CHILD, str(root), *map(str, bundles)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, pace))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        release = registry.current()
        assert registry.open(release).sha256 in contents
        assert release.version >= before, "an older version became current"
        before = release.version
        for version in registry.versions():
            open_bundle(registry.directory(version))  # every version is whole, not only this one
        orphans += len([*(root / "versions").glob(".*.partial")])
    handle = ServingHandle.open(root, canary=False)
    assert not handle.status.last_known_good
    assert handle.recommender.recommend([10], k=3).items
    handle.close()
    registry.collect(keep=1, keep_days=0)
    assert [path.name for path in (root / "versions").iterdir()] == [before]
    return kills, int(before.partition("-")[0]), orphans


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> list[Path]:
    root = tmp_path_factory.mktemp("bundles")
    return [make_toy(root / str(n), num_items=30 + n).path for n in range(2)]


def test_five_kills_leave_a_whole_version_each_time(tmp_path: Path, bundles: list[Path]) -> None:
    kill_loop(tmp_path / "registry", bundles, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_kills_leave_a_whole_version_each_time(
    tmp_path: Path, bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kills, versions, orphans = kill_loop(tmp_path / "registry", bundles, 200)
    with capsys.disabled():
        print(f"\n{kills} kills over {versions} publishes: all loads whole, {orphans} orphans")


def test_a_publish_that_is_not_atomic_would_be_noticed(tmp_path: Path, bundles: list[Path]) -> None:
    """The check itself: a half-copied version under a pointer to it does not open."""
    registry = Registry(tmp_path / "registry")
    release, _ = registry.publish(bundles[0], canary=False)
    victim = registry.directory(release.version) / "model.vectors.npy"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(BundleError):
        registry.open(registry.current())
