"""Time and memory from a large log to model-ready data; writes build_large.md.

    python benchmarks/build_large.py --millions 1 10 100 --folder work/large

A synthetic log as Parquet files of 2 million rows (users and items by Zipf, a year, three
behaviours) goes through the two stages and a table of point-in-time features, each in a process of
its own: `recsys data` (shuffle by hash of the user, sort), `recsys features` (clean, split, number,
encode, prove), `features.asof` on a sample of cases. Peak memory is the process's, mapped files
included. Files are deleted after each size.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROWS_A_FILE = 2_000_000
ROWS_A_PART = 1_500_000
FEATURE_ROWS_SHARE = 0.01
"""Rows with features, of the events."""


def generate(folder: Path, rows: int) -> None:
    """`rows` events in order of time; 1 user for 100 events, 1 item for 1,000, at least 10,000."""
    import numpy as np
    import polars as pl

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    users, items = max(rows // 100, 1_000), max(min(rows // 1_000, 200_000), 10_000)
    start, span = 1_700_000_000_000_000, 365 * 86_400 * 1_000_000
    done = 0
    while done < rows:
        count = min(ROWS_A_FILE, rows - done)
        low, high = (start + int(span * share / rows) for share in (done, done + count))
        # the inverse of a Zipf-like distribution function: a few ids are much more frequent
        user = np.floor(users ** rng.random(count) * 1.0) + rng.integers(0, users, count)
        item = np.floor(items ** rng.random(count))
        pl.DataFrame(
            {
                "user_id": (user.astype(np.int64) * 7_919) % users,
                "item_id": item.astype(np.int64) * 31 + 5,
                "timestamp": np.sort(rng.integers(low, high, count)),
                "event": rng.choice(["view", "cart", "buy"], count, p=[0.9, 0.07, 0.03]),
                "value": rng.random(count),
            }
        ).with_columns(pl.from_epoch("timestamp", time_unit="us")).write_parquet(
            folder / f"log-{done // ROWS_A_FILE:04d}.parquet"
        )
        done += count


def data(folder: Path, rows: int) -> None:
    from data.build import build_events
    from data.config import LogFiles

    parts = max(round(rows / ROWS_A_PART), 1)
    build_events(LogFiles(paths=(f"{folder}/log/*.parquet",), parts=parts), folder / "events")


def features(folder: Path, rows: int) -> None:
    from features.build import build_dataset
    from features.config import FeatureConfig

    build_dataset(folder / "events", FeatureConfig(), folder / "dataset")


def asof(folder: Path, rows: int) -> None:
    from features.store import Dataset
    from features.training_table import write_training_table

    dataset = Dataset.open(folder / "dataset")
    limit = round(rows * FEATURE_ROWS_SHARE)
    write_training_table(dataset, folder / "table", split="test", max_rows=limit)


STAGES = {"data": data, "features": features, "asof": asof}


def stage(name: str, folder: Path, rows: int) -> None:
    """Run one stage; prints seconds, processor seconds and peak MiB as JSON."""
    started, cpu = time.perf_counter(), time.process_time()
    STAGES[name](folder, rows)
    used = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(used))


def measure(
    folder: Path, millions: float, stages: list[str], *, keep: bool
) -> dict[str, dict[str, float]]:
    """All stages of one size, each in a fresh process."""
    rows = round(millions * 1_000_000)
    shutil.rmtree(folder, ignore_errors=True)
    generate(folder / "log", rows)
    os.sync()
    found = {}
    for name in stages:
        command = [sys.executable, __file__, "--stage", name, "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--millions", str(millions)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found[name] = json.loads(done.stdout)
        print(millions, name, found[name], file=sys.stderr, flush=True)
    size = sum(p.stat().st_size for p in (folder / "log").glob("*")) / 2**20
    found["log"] = {"MiB": size}
    if not keep:
        shutil.rmtree(folder)
    return found


def report(sizes: dict[float, dict[str, dict[str, float]]], note: str) -> str:
    """The measurements as Markdown."""
    lines = ["| million events | stage | seconds | µs an event | processor s | peak MiB |"]
    lines.append("|---|---|---|---|---|---|")
    for millions, found in sizes.items():
        total = 0.0
        for name, used in found.items():
            if name == "log":
                continue
            total += used["seconds"]
            lines.append(
                f"| {millions:g} | {name} | {used['seconds']:.1f} | "
                f"{used['seconds'] / millions:.2f} | {used['cpu']:.1f} | {used['peak']:,.0f} |"
            )
        lines.append(
            f"| {millions:g} ({found['log']['MiB']:,.0f} MiB) | **all** | **{total:.1f}** | "
            f"**{total / millions:.2f}** | | |"
        )
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    machine = f"{os.cpu_count()} vCPU {model}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# A large log to model-ready data",
            "",
            (__doc__ or "").split("\n\n", 2)[2].strip(),
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {machine}. {note}",
            "",
            *lines,
            "",
            "Again: `python benchmarks/build_large.py --millions 1 10 100 --folder work/large`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0, 10.0, 100.0])
    parser.add_argument("--folder", type=Path, default=Path("work/large"))
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--note", default="")
    parser.add_argument("--keep", action="store_true", help="Leave the last size's files there.")
    arguments = parser.parse_args()
    if arguments.stage:
        stage(arguments.stage, arguments.folder, round(arguments.millions[0] * 1_000_000))
        return
    sizes = {
        m: measure(arguments.folder, m, arguments.stages, keep=arguments.keep)
        for m in arguments.millions
    }
    text = report(sizes, arguments.note)
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
