"""Asking in tests: a job in this process, and a log of events of made-up users."""

from pathlib import Path

import numpy as np
import polars as pl

from serving.batch import Checks, score
from serving.jobs.executors import Executor, local
from serving.jobs.plan import Question, What

HERE = local(1)
"""In this process: quick, and a test can look in."""


def ask(
    bundle: Path,
    source: Path,
    out: Path,
    *,
    k: int = 5,
    part_size: int = 10,
    executor: Executor = HERE,
    what: What = "lists",
    checks: Checks | None = None,
) -> None:
    score(
        bundle, source, out, question=Question(what=what, k=k), part_size=part_size,
        executor=executor, checks=checks or Checks(),
    )  # fmt: skip


def write_events(path: Path, users: int, *, seed: int = 0, first: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, users)
    total = int(lengths.sum())
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(first, first + users), lengths),
            "item_id": rng.integers(1, 63, total) * 10,  # 610 and 620 are unknown
            "timestamp": np.arange(total),
        }
    )
    frame.write_parquet(path)
    return frame


def write_four_each(path: Path, users: int) -> None:
    """Four events on known items for each user, undated."""
    rng = np.random.default_rng(0)
    items = rng.integers(1, 61, 4 * users) * 10
    pl.DataFrame({"user_id": np.repeat(np.arange(users), 4), "item_id": items}).write_parquet(path)


def write_shards(folder: Path, count: int, users: int) -> pl.DataFrame:
    folder.mkdir()
    return pl.concat(
        write_events(folder / f"shard-{n}.parquet", users, seed=n, first=n * users)
        for n in range(count)
    )
