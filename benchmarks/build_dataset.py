"""Time from events/ to dataset/ on MovieLens-1M, leave-one-out; writes build_dataset.md.

    RECSYS_DATA=<folder> python benchmarks/build_dataset.py

Every run is a fresh process, so nothing is warm but the file cache. Measured are `build_dataset`
itself (hashing and fsync included; the bar is 1.5 s) and the whole process with its imports.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

BAR = 1.5
"""Seconds."""


def once(events: Path, out: Path) -> None:
    """Build one dataset; prints seconds of wall time, of processor time, and peak memory in MiB."""
    from features.build import build_dataset
    from features.config import FeatureConfig, LeaveOneOut

    wall, cpu = time.perf_counter(), time.process_time()
    build_dataset(events, FeatureConfig(split=LeaveOneOut()), out)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(runs: int) -> list[list[float]]:
    """Wall, processor, peak memory and wall of the whole process, a row each, over `runs`."""
    from data.build import build_events
    from data.config import MovieLens

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events"
        build_events(MovieLens(source="movielens-1m"), events)
        for run in range(runs):
            command = [sys.executable, __file__, "--events", str(events)]
            started = time.perf_counter()
            done = subprocess.run(
                [*command, "--out", f"{folder}/dataset-{run}"],
                check=True,
                capture_output=True,
                text=True,
            )
            process = time.perf_counter() - started
            rows.append([*map(float, done.stdout.split()), process])
            print(f"run {run + 1} of {runs}: {rows[-1][0]:.2f} s", file=sys.stderr)
    return [list(column) for column in zip(*rows, strict=True)]


def machine() -> str:
    """Cores, processor and memory of this machine."""
    models = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(models)} vCPU {models[0]}, {memory:.0f} GiB"


def report(columns: list[list[float]], note: str) -> str:
    """The measurements as Markdown."""
    names = (
        "`build_dataset`, wall, s",
        "`build_dataset`, processor, s",
        "peak memory of the process, MiB",
        "whole process with imports, wall, s",
    )
    rows = [
        f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
        for name, values in zip(names, columns, strict=True)
    ]
    load = f"load average at the end {os.getloadavg()[0]:.1f}"
    return "\n".join(
        [
            "# MovieLens-1M: events/ to dataset/",
            "",
            "999,611 events of 6,040 users on 3,416 items with titles, genres and year; leave one",
            "out; from Parquet to the finished directory, hashes and fsync included.",
            "",
            f"{len(columns[0])} runs, each in a fresh process. {datetime.now(UTC):%Y-%m-%d}, "
            f"{machine()}, Python {platform.python_version()}; {load}. {note}",
            "",
            "| | median | least | most |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Bar: {BAR} s of wall time for `build_dataset`.",
            "",
            "Again: `RECSYS_DATA=<folder> python benchmarks/build_dataset.py`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--note", default="", help="A sentence on the machine's other work.")
    parser.add_argument("--events", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out:
        once(arguments.events, arguments.out)
        return
    text = report(measure(arguments.runs), arguments.note)
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
