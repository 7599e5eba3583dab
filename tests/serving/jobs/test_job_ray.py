"""Scoring on Ray: the parts of the local executor, also when a node is lost on the way."""

import os
import secrets
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.batch import score
from serving.jobs.executors import local
from serving.jobs.plan import Question
from serving.jobs.ray_executor import RayExecutor
from tests.serving.batch_jobs import write_four_each

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
if find_spec("ray") is None:
    pytest.skip("needs the package's `ray` extra", allow_module_level=True)
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # read at import


def lists_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(out.glob("part-*.parquet")))


def test_ray_on_this_machine_gives_the_same_parts(toy: Any, tmp_path: Path) -> None:
    write_four_each(tmp_path / "events.parquet", 2_000)
    for name, executor in (("local", local(1)), ("ray", RayExecutor("local", actors=2))):
        score(
            toy.path, tmp_path / "events.parquet", tmp_path / name, question=Question(k=5),
            part_size=250, executor=executor,
        )  # fmt: skip
    assert lists_of(tmp_path / "ray").equals(lists_of(tmp_path / "local"))
    assert (tmp_path / "ray" / "parts.jsonl").read_bytes() == (
        tmp_path / "local" / "parts.jsonl"
    ).read_bytes()


def test_a_lost_node_costs_time_only(toy: Any, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    users = 40_000
    write_four_each(tmp_path / "events.parquet", users)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 100 << 20,
            "include_dashboard": False,
        },
    )
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
    cluster.wait_for_nodes()
    parts = tmp_path / ".scores.partial"
    removed = []

    def remove_one() -> None:
        while len(list(parts.glob("part-*.parquet"))) < 20:
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        removed.append(len(list(parts.glob("part-*.parquet"))))

    thread = threading.Thread(target=remove_one)
    thread.start()
    try:
        score(
            toy.path, tmp_path / "events.parquet", tmp_path / "scores", question=Question(k=5),
            part_size=100, executor=RayExecutor(cluster.address),
        )  # fmt: skip
    finally:
        thread.join()
        cluster.shutdown()
    assert 20 <= removed[0] < 400, "the node was removed in the middle of the job"
    assert lists_of(tmp_path / "scores")["user_id"].to_list() == list(range(users))
