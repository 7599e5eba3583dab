"""A build whose pieces are made elsewhere, against the build made here: every file the same."""

import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import LogFiles
from features.build import build_dataset
from features.config import FeatureConfig
from features.errors import InputError
from features.ray_cluster import RaySpread
from features.spread import Spread
from features.stage import read_manifest

needs_ray = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the package's `ray` extra"),
]
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # read at import


def elsewhere(function: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[Any]:
    """As if in other processes: everything travels as bytes, the last piece is done first."""
    told = [pickle.dumps((function, piece)) for piece in pieces]
    results = {}
    for number in reversed(range(len(told))):
        called, piece = pickle.loads(told[number])
        results[number] = pickle.dumps(called(piece))
    return iter([pickle.loads(results[number]) for number in range(len(told))])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Six files of 4,000 rows: 300 users, 500 items, some rows twice."""
    (tmp_path / "log").mkdir()
    draw = np.random.default_rng(0)
    for number in range(6):
        frame = pl.DataFrame(
            {
                "user_id": draw.integers(0, 300, 4_000),
                "item_id": draw.integers(0, 500, 4_000) * 7,
                "timestamp": np.sort(draw.integers(0, 10_000, 4_000)) + number * 10_000,
                "event": draw.choice(["view", "buy"], 4_000),
            }
        )
        pl.concat([frame, frame[:50]]).sort("timestamp", maintain_order=True).write_parquet(
            tmp_path / "log" / f"day-{number}.parquet"
        )
    return tmp_path / "log"


def build(log: Path, folder: Path, spread: Spread | None) -> dict[str, str]:
    """Both stages; returns the sha256 of every file of both."""
    config = LogFiles(paths=(str(log / "*.parquet"),), parts=4)
    build_events(config, folder / "events", spread=spread)
    settings = FeatureConfig(min_user_events=20, min_item_events=3)
    build_dataset(folder / "events", settings, folder / "dataset", spread=spread)
    hashes = {}
    for stage in ("events", "dataset"):
        files = read_manifest(folder / stage, stage).files
        hashes |= {f"{stage}/{name}": digest for name, digest in files.items()}
    return hashes


def test_pieces_made_elsewhere_give_the_same_bytes(log: Path, tmp_path: Path) -> None:
    here = build(log, tmp_path / "here", None)
    assert len([name for name in here if "parts/" in name]) >= 8
    assert build(log, tmp_path / "there", elsewhere) == here


def test_what_a_piece_refuses_is_said(log: Path, tmp_path: Path) -> None:
    bad = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [None], "event": ["view"]})
    bad.cast({"timestamp": pl.Int64}).write_parquet(log / "day-7.parquet")
    with pytest.raises(InputError, match="day-7"):
        build(log, tmp_path / "there", elsewhere)
    assert not (tmp_path / "there" / "events").exists()


def test_a_log_in_memory_is_not_spread(log: Path, tmp_path: Path) -> None:
    config = LogFiles(paths=(str(log / "*.parquet"),), order="sort")
    with pytest.raises(InputError, match="set parts"):
        build_events(config, tmp_path / "events", spread=elsewhere)
    build_events(config, tmp_path / "events")
    with pytest.raises(InputError, match="not in parts"):
        build_dataset(tmp_path / "events", FeatureConfig(), tmp_path / "out", spread=elsewhere)


class TestRay:
    pytestmark = needs_ray

    def test_ray_on_this_machine_gives_the_same_bytes(self, log: Path, tmp_path: Path) -> None:
        here = build(log, tmp_path / "here", None)
        assert build(log, tmp_path / "ray", RaySpread("local")) == here

    def test_a_lost_node_costs_time_only(self, log: Path, tmp_path: Path) -> None:
        from ray.cluster_utils import Cluster

        here = build(log, tmp_path / "here", None)
        options = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(
            initialize_head=True, head_node_args={**options, "include_dashboard": False}
        )
        nodes = [cluster.add_node(**options) for _ in range(2)]
        removed = []

        def remove_when_working() -> None:
            while not list((tmp_path / "ray").glob(".events.*/scratch/chunk-*")):
                time.sleep(0.02)
            cluster.remove_node(nodes[0], allow_graceful=False)
            removed.append(nodes[0])

        (tmp_path / "ray").mkdir()
        thread = threading.Thread(target=remove_when_working, daemon=True)
        thread.start()
        try:
            assert build(log, tmp_path / "ray", RaySpread(cluster.address)) == here
            thread.join(60)
            assert removed
        finally:
            cluster.shutdown()
