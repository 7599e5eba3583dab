"""SIGKILL at moments the clock picks: whatever was being published, a reader finds a whole version.

A forked child publishes two bundles in turn for as long as it lives. After each kill CURRENT must
open, its content must be one of the two, all versions must be whole, and none may go back.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import BundleError
from serving.handle import ServingHandle
from serving.registry import Registry

KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from serving.bundle import open_bundle
from serving.registry import Registry

root, kills, bundles = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
registry = Registry(root)
started = time.monotonic()
registry.publish(Path(bundles[0]), canary=False)
pace = 4 * (time.monotonic() - started)
contents = {open_bundle(Path(path)).sha256 for path in bundles}
random.seed(0)
before, orphans = registry.current().version, 0
for _ in range(kills):
    child = os.fork()
    if not child:
        turn = 0
        registry.collect(keep=2, keep_days=0)
        while True:
            turn += 1
            registry.publish(Path(bundles[turn % 2]), canary=False)
            registry.collect(keep=2, keep_days=0)
    time.sleep(random.uniform(0, pace))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended by itself"
    release = registry.current()
    assert registry.open(release).sha256 in contents
    assert release.version >= before, "an older version became current"
    before = release.version
    for version in registry.versions():
        open_bundle(registry.directory(version))
    orphans += len([*(root / "versions").glob(".*.partial")])
print(f"{kills} kills over {int(before[:6])} publishes: all loads whole, {orphans} orphans met")
"""


def kill_loop(root: Path, bundles: list[Path], kills: int) -> str:
    command = [sys.executable, "-c", KILLER, str(root), str(kills), *map(str, bundles)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    handle = ServingHandle.open(root, canary=False)
    assert not handle.status.last_known_good
    assert handle.recommender.recommend([10], k=3).items
    handle.close()
    registry = Registry(root)
    registry.collect(keep=0, keep_days=0)  # also what was renamed and never became current
    assert [path.name for path in (root / "versions").iterdir()] == [registry.current().version]
    return result.stdout


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_toy: Callable) -> list[Path]:
    root = tmp_path_factory.mktemp("bundles")
    return [make_toy(root / str(n), num_items=30 + n).path for n in range(2)]


def test_twenty_kills_leave_a_whole_version_each_time(tmp_path: Path, bundles: list[Path]) -> None:
    assert "20 kills" in kill_loop(tmp_path / "registry", bundles, 20)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_two_hundred_and_fifty_kills_leave_a_whole_version_each_time(
    tmp_path: Path, bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = kill_loop(tmp_path / "registry", bundles, 250)
    with capsys.disabled():
        print("\n" + told)


def test_a_publish_that_is_not_atomic_would_be_noticed(tmp_path: Path, bundles: list[Path]) -> None:
    """The check itself: a half-copied version under a pointer to it does not open."""
    registry = Registry(tmp_path / "registry")
    release, _ = registry.publish(bundles[0], canary=False)
    victim = registry.directory(release.version) / "model.vectors.npy"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(BundleError):
        registry.open(registry.current())
