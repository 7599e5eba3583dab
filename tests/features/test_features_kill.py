"""A build killed at any moment leaves nothing that is taken for a dataset, and a rerun is equal."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig
from features.errors import InputError
from features.stage import StageManifest, partial_path, read_manifest
from features.store import Dataset

CODE = """
import sys
from pathlib import Path
from features.build import build_dataset
from features.config import FeatureConfig
print("ready", flush=True)
build_dataset(Path(sys.argv[1]), FeatureConfig(), Path(sys.argv[2]))
"""


@pytest.fixture
def events(
    build_events: Callable[..., Path],
    random_log: Callable[..., pl.DataFrame],
    random_items: Callable[..., pl.DataFrame],
) -> Path:
    """Enough for a build of a tenth of a second or more, of which writing is a good part."""
    return build_events(random_log(0, users=2_000, items=2_000, events=200_000), random_items(0))


@contextmanager
def building(events: Path, out: Path) -> Iterator[subprocess.Popen]:
    """A build that has just begun in its own process; killed at the end of the block."""
    arguments = [sys.executable, "-c", CODE, str(events), str(out)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == "ready\n"
        yield build
        build.kill()


def kill_and_compare(events: Path, expected: StageManifest, seconds: float, *, kills: int) -> None:
    moments, hit = random.Random(0), 0
    out = events.parent / "killed"
    for kill in range(kills):
        share = (kill + moments.random()) / kills  # one moment in each part of the build
        with building(events, out) as build:
            time.sleep(share * seconds)
        hit += build.returncode == -signal.SIGKILL
        if out.exists():  # killed after the last rename: then it is whole
            assert Dataset.open(out, verify=True).manifest == expected
            out = events.parent / f"killed-{kill}"
        else:
            with pytest.raises(InputError, match=r"has no manifest\.json"):
                Dataset.open(out)
    assert hit
    if not out.exists():
        build_dataset(events, FeatureConfig(), out)
    assert Dataset.open(out, verify=True).manifest == expected
    assert not partial_path(out).exists()


@pytest.fixture
def undisturbed(events: Path) -> tuple[StageManifest, float]:
    """The manifest of a build that nobody killed, and how long it took in seconds."""
    for name in ("warm-up", "undisturbed"):
        started = time.perf_counter()
        build_dataset(events, FeatureConfig(), events.parent / name)
    return read_manifest(events.parent / name, "dataset"), time.perf_counter() - started


def test_three_kills_then_a_rerun_equal_an_undisturbed_build(
    events: Path, undisturbed: tuple[StageManifest, float]
) -> None:
    kill_and_compare(events, *undisturbed, kills=3)


def test_a_build_killed_while_it_writes_is_made_anew(
    events: Path, undisturbed: tuple[StageManifest, float]
) -> None:
    out = events.parent / "killed"
    partial = partial_path(out)
    with building(events, out) as build:
        while not (partial / "events.arrow").exists():
            time.sleep(0.0005)
            assert build.poll() is None
    assert build.returncode == -signal.SIGKILL
    assert list(partial.iterdir())
    assert not out.exists()
    build_dataset(events, FeatureConfig(), out)
    assert Dataset.open(out, verify=True).manifest == undisturbed[0]
    assert not partial.exists()


@pytest.mark.slow
def test_ten_kills_then_a_rerun_equal_an_undisturbed_build(
    events: Path, undisturbed: tuple[StageManifest, float]
) -> None:
    kill_and_compare(events, *undisturbed, kills=10)
