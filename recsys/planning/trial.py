"""Runs a workload through the commands a user would give, and measures each.

Every stage is a process of its own, on one thread; processor time and peak memory are those of the
process and of what it waited for, as the kernel counted them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import InputError
from recsys.planning.costs import Trial, Used
from recsys.planning.workload import PART, SHARD, Workload

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
START = 1_700_000_000_000_000
SECOND = 1_000_000
Say = Callable[[str], None]


def write_log(folder: Path, workload: Workload, seed: int = 0) -> None:
    """Shards of events, each user's in one: popularity by Zipf's law, every item at least once.

    Raises InputError where there are fewer events than items.
    """
    rng = np.random.default_rng(seed)
    least, most = max(round(workload.history / 2), 3), round(1.5 * workload.history)
    lengths = rng.integers(least, max(most, least) + 1, workload.users)
    total = int(lengths.sum())
    if total < workload.items:
        raise InputError(
            f"a log of {total:,} events cannot name {workload.items:,} items: ask for more users, "
            f"longer histories or fewer items"
        )
    items = np.floor(workload.items ** rng.random(total)).astype(np.int64) % workload.items
    items[: workload.items] = np.arange(workload.items)
    rng.shuffle(items)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(workload.users), lengths),
            "item_id": items * 7 + 3,
            "timestamp": START + np.arange(total) * SECOND,
        }
    )
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, workload.users, SHARD)):
        shard = frame.filter(pl.col("user_id").is_between(first, first + SHARD - 1))
        shard.write_parquet(folder / f"users-{number:04d}.parquet")


def config_of(workload: Workload, log: Path) -> str:
    """The TOML file of the pipeline that is measured."""
    objective = (
        f'{{ name = "sampled_softmax", negatives = {workload.negatives} }}'
        if workload.negatives
        else '{ name = "full_softmax" }'
    )
    ranker = "lightgbm" if workload.candidates else "none"
    return f"""
[data]
source = "log"
paths = [{json.dumps(f"{log}/*.parquet")}]
timestamp = "us"
parts = {max(round(workload.events / PART), 1)}

[features]
split = {{ name = "leave-one-out" }}
duplicates = "keep"

[model]
name = "sasrec"
max_len = {workload.max_len}
dim = {workload.dim}
num_blocks = {workload.num_blocks}
num_heads = 2
dropout = 0.2

[train]
objective = {objective}
batch_size = {workload.batch_size}
max_epochs = {workload.epochs}
patience = {workload.epochs}
accelerator = "cpu"

[export]
sources = ["model", "popularity"]
candidates = {workload.candidates or 200}
ranker = "{ranker}"
"""


def run_trial(workload: Workload, folder: Path, say: Say) -> Trial:
    """Run all stages of `workload` below `folder`, which must not exist, and measure each.

    Raises InputError where a stage fails, with what it said.
    """
    write_log(folder / "log", workload)
    config = folder / "config.toml"
    config.write_text(config_of(workload, folder / "log"))
    paths = {name: str(folder / name) for name in ("events", "dataset", "run", "bundle", "scores")}
    commands = {
        "data": ["data", str(config), "--out", paths["events"]],
        "features": [
            "features", str(config), "--events", paths["events"], "--out", paths["dataset"]
        ],
        "train": ["train", str(config), "--dataset", paths["dataset"], "--out", paths["run"]],
        "export": [
            "export", str(config), "--dataset", paths["dataset"], "--run", paths["run"],
            "--out", paths["bundle"],
        ],
        "score": score_command(folder, workload, 1),
    }  # fmt: skip
    used = {}
    for stage, command in commands.items():
        used[stage] = measure(command)
        found = used[stage]
        say(f"{stage:9} {found.cpu_seconds:8.1f} s of processor, {found.peak_mib:6,.0f} MiB")
    return Trial(workload=workload, used=used)


def score_command(folder: Path, workload: Workload, processes: int) -> list[str]:
    """The batch job over the log's own shards."""
    out = str(folder / ("scores" if processes == 1 else f"scores-{processes}"))
    return [
        "score", str(folder / "bundle"), str(folder / "log"), "--out", out, "-k", str(workload.k),
        "--processes", str(processes),
    ]  # fmt: skip


def measure(arguments: list[str]) -> Used:
    """Run a verb of `recsys` in a process of its own; raises InputError where it fails."""
    environment = os.environ | dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-c", "from recsys.cli import main; main()", *arguments]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if child.returncode:
        tail = "\n".join(said.strip().splitlines()[-5:])
        raise InputError(f"`recsys {' '.join(arguments)}` ended with {child.returncode}: {tail}")
    return Used(
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        seconds=time.perf_counter() - started,
    )
