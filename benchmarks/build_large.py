"""Time and memory from a large log to model-ready data; writes build_large.md.

    python benchmarks/build_large.py --millions 1 10 100 --folder work/large

A synthetic log as Parquet files of 2 million rows (users and items by Zipf, a year, three
behaviours) goes through the two stages and a table of point-in-time features, each in a process of
its own whose imports are not timed: `recsys data` (shuffle by hash of the user, sort), `recsys
features` (clean, split, number, encode, count days and co-visits, prove), `recsys asof` (every
feature that the data has, for one event in a hundred, each with its whole history). "Peak" is all
resident memory of the process, pages of mapped files included, which the system may take back at
any time; "own" is what it may not. What is done stands in results.json of the folder: a killed run
goes on.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROWS_A_FILE = 2_000_000
ROWS_A_PART = 1_500_000
FEATURE_ROWS_SHARE = 0.01
"""Rows with features, of the events."""
Used = dict[str, float]


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

    build_dataset(folder / "events", FeatureConfig(covisit_reach=1), folder / "dataset")


def asof(folder: Path, rows: int) -> None:
    from features.store import Dataset
    from features.training_table import write_training_table

    dataset = Dataset.open(folder / "dataset")
    limit = round(rows * FEATURE_ROWS_SHARE)
    write_training_table(dataset, folder / "table", split="test", max_rows=limit)


STAGES = {"data": data, "features": features, "asof": asof}
OUTPUTS = {"data": "events", "features": "dataset", "asof": "table"}


def held(name: str) -> float:
    """A figure of this process in MiB. (Not getrusage: it counts the parent before the exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@contextmanager
def watched() -> Iterator[list[float]]:
    """Yield a list of one number: the most memory, MiB, that is no mapped file, so far."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], held("RssAnon"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def stage(name: str, folder: Path, rows: int) -> None:
    """Run one stage; prints seconds, processor seconds and peak MiB as JSON."""
    import features.build
    import features.training_table  # noqa: F401 - imports are not what is measured

    with watched() as own:
        started, cpu = time.perf_counter(), time.process_time()
        STAGES[name](folder, rows)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": held("VmHWM"), "own": own[0]}))


def measure(folder: Path, millions: float, stages: list[str], results: dict[str, Used]) -> None:
    """The stages of one size that `results` lacks, each in a fresh process."""
    rows = round(millions * 1_000_000)
    if f"{millions:g} log" not in results:
        shutil.rmtree(folder, ignore_errors=True)
        generate(folder / "log", rows)
        os.sync()
        size = sum(p.stat().st_size for p in (folder / "log").glob("*")) / 2**20
        results[f"{millions:g} log"] = {"MiB": size}
        save(folder.parent, results)
    for name in stages:
        if f"{millions:g} {name}" in results:
            continue
        shutil.rmtree(folder / OUTPUTS[name], ignore_errors=True)
        command = [sys.executable, __file__, "--stage", name, "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--millions", str(millions)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        results[f"{millions:g} {name}"] = json.loads(done.stdout)
        save(folder.parent, results)
        print(millions, name, done.stdout.strip(), file=sys.stderr, flush=True)


def save(folder: Path, results: dict[str, Used]) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1))


def report(sizes: list[float], results: dict[str, Used], note: str) -> str:
    """The measurements as Markdown."""
    lines = [
        "| million events | stage | seconds | processor s | processor µs an event | beside the "
        "smallest | peak MiB | own MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = [name for name in STAGES if all(f"{m:g} {name}" in results for m in sizes)]
    rows: dict[str, list[Used]] = {
        name: [results[f"{m:g} {name}"] for m in sizes] for name in names
    }
    rows["**all**"] = [
        {
            key: (sum if key in ("seconds", "cpu") else max)(rows[name][i][key] for name in names)
            for key in ("seconds", "cpu", "peak", "own")
        }
        for i in range(len(sizes))
    ]
    for i, millions in enumerate(sizes):
        size = results[f"{millions:g} log"]["MiB"]
        for name, used in rows.items():
            each = used[i]["cpu"] / millions
            base = used[0]["cpu"] / sizes[0]
            lines.append(
                f"| {millions:g} ({size:,.0f} MiB) | {name} | {used[i]['seconds']:.1f} | "
                f"{used[i]['cpu']:.1f} | {each:.2f} | {each / base:.2f}x | "
                f"{used[i]['peak']:,.0f} | {used[i]['own']:,.0f} |"
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
    parser.add_argument("--keep", action="store_true", help="Leave the files of all sizes there.")
    arguments = parser.parse_args()
    if arguments.stage:
        stage(arguments.stage, arguments.folder, round(arguments.millions[0] * 1_000_000))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    done = arguments.folder / "results.json"
    results = json.loads(done.read_text()) if done.exists() else {}
    for millions in arguments.millions:
        size = arguments.folder / f"{millions:g}"
        measure(size, millions, arguments.stages, results)
        if not arguments.keep:
            shutil.rmtree(size, ignore_errors=True)
    text = report(arguments.millions, results, arguments.note)
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
