"""Seconds per training epoch on MovieLens-1M beside RecTools' SASRec; writes training_speed.md.

    python benchmarks/training_speed.py --dataset work/ml-1m-loo/dataset --peer-python <python>

Same sizes for all: max_len 200, dim 64, 2 blocks, 2 heads, batch 128, 2 threads, float32, the last
window of each history. The peer's interpreter is one with `rectools[torch]==0.19.0`; it receives
the training events as .npy files. Every measurement is a fresh process. Given are wall time and
processor time: the second is the fairer one on a machine that others use too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
THREADS = 2
SIZES = {"max_len": 200, "dim": 64, "num_blocks": 2, "num_heads": 2, "dropout": 0.2}
OURS = {
    "full_softmax": {"name": "full_softmax"},
    "sampled_softmax": {"name": "sampled_softmax", "negatives": 256},
}
BARS = {"full_softmax": 8, "sampled_softmax": 25}
"""Times faster than RecTools with full softmax."""


def processor_seconds() -> float:
    """Of this process, all threads."""
    times = os.times()
    return times.user + times.system


def measure_ours(dataset: Path, objective: str, epochs: int) -> dict[str, list[float]]:
    """Wall and processor seconds of each epoch but the first, validation not included."""
    import torch
    from pydantic import TypeAdapter

    from recsys.training import run
    from recsys.training.config import TrainConfig
    from recsys.training.validation import Validation

    torch.set_num_threads(THREADS)
    config = TypeAdapter(TrainConfig).validate_python(
        {"objective": OURS[objective], "max_epochs": epochs, "accelerator": "cpu"}
    )
    wall: list[float] = []
    cpu: list[float] = []
    begun = [0.0, 0.0]
    scores = Validation.scores

    def between(self: object, *args: object) -> dict[str, float]:
        wall.append(time.perf_counter() - begun[0])
        cpu.append(processor_seconds() - begun[1])
        found = scores(self, *args)
        begun[:] = time.perf_counter(), processor_seconds()
        return found

    Validation.scores = between
    with tempfile.TemporaryDirectory() as folder:
        begun[:] = time.perf_counter(), processor_seconds()
        run.train("sasrec", SIZES, config, dataset, Path(folder) / "run")
    return {"wall": wall[1:], "cpu": cpu[1:]}  # the first epoch holds the start-up


def measure_peer(folder: Path) -> dict[str, list[float]]:
    """Wall and processor seconds of RecTools' `fit` of one epoch."""
    import numpy as np
    import pandas as pd
    import torch
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(THREADS)
    order = np.load(folder / "order.npy")
    events = pd.DataFrame(
        {
            Columns.User: np.load(folder / "users.npy"),
            Columns.Item: np.load(folder / "items.npy"),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(order, unit="s"),
        }
    )
    dataset = Dataset.construct(events)
    model = SASRecModel(
        n_factors=64, n_blocks=2, n_heads=2, session_max_len=200, batch_size=128, epochs=1,
        loss="softmax", dropout_rate=0.2, lr=1e-3,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), processor_seconds()
    model.fit(dataset)
    return {"wall": [time.perf_counter() - wall], "cpu": [processor_seconds() - cpu]}


def export_events(dataset: Path, folder: Path) -> None:
    """Write the training events as users.npy, items.npy, order.npy."""
    import numpy as np

    from features.store import Dataset

    histories = Dataset.open(dataset).training_histories()
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    rows = np.concatenate(
        [np.arange(*ends) for ends in zip(histories.starts, histories.ends, strict=True)]
    )
    np.save(folder / "users.npy", users)
    np.save(folder / "items.npy", np.asarray(histories.items[rows]).astype(np.int64))
    np.save(folder / "order.npy", np.arange(len(rows)))


def child(python: str, *arguments: str) -> dict[str, list[float]]:
    """Run this file in a fresh process and read the last line it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, __file__, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    result = json.loads(done.stdout.splitlines()[-1])
    print(arguments[0], {key: [round(x, 1) for x in xs] for key, xs in result.items()}, flush=True)
    return result


def machine() -> str:
    """Processor, cores and load."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """The Markdown table of medians and ratios."""
    lines = [
        "| | epochs | wall s, median | range | processor s | faster, wall | processor | bar |",
        "|---|---|---|---|---|---|---|---|",
    ]
    peer = results.get("RecTools 0.19, full softmax")
    for name, result in results.items():
        wall, cpu = statistics.median(result["wall"]), statistics.median(result["cpu"])
        spread = f"{min(result['wall']):.1f}-{max(result['wall']):.1f}"
        ratios = "| | "
        if peer and result is not peer:
            ratios = (
                f"| **{statistics.median(peer['wall']) / wall:.1f}** "
                f"| {statistics.median(peer['cpu']) / cpu:.1f} "
            )
        bar = next((f"{times}" for key, times in BARS.items() if key in name), "")
        cells = f"| {name} | {len(result['wall'])} | {wall:.1f} | {spread} | {cpu:.1f} "
        lines.append(f"{cells}{ratios}| {bar} |")
    return "\n".join(lines)


def main() -> None:
    """Measure ours, the peer, and ours again; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--peer-python", default="", help="Interpreter that has rectools 0.19.0.")
    parser.add_argument("--epochs", type=int, default=4, help="Of ours; the first is not counted.")
    parser.add_argument("--ours", choices=OURS)
    parser.add_argument("--peer", type=Path)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(measure_peer(options.peer)))
        return
    if options.ours:
        print(json.dumps(measure_ours(options.dataset, options.ours, options.epochs)))
        return
    about, results = machine(), {}

    def ours() -> None:
        for name in OURS:
            found = child(
                sys.executable, "--ours", name, "--dataset", str(options.dataset.resolve()),
                "--epochs", str(options.epochs),
            )  # fmt: skip
            kept = results.setdefault(f"ours, {name}", {"wall": [], "cpu": []})
            for key, values in found.items():
                kept[key] += values

    ours()
    if options.peer_python:
        with tempfile.TemporaryDirectory() as folder:
            export_events(options.dataset, Path(folder))
            peer = child(options.peer_python, "--peer", folder)
        results["RecTools 0.19, full softmax"] = peer
        ours()
    text = (
        "# Training speed: one epoch of SASRec on MovieLens-1M\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, {about}, {THREADS} threads. "
        "max_len 200, dim 64, 2 blocks, 2 heads, batch 128, float32, leave-two-out training part "
        "(6,040 users, 3,416 items). Fresh processes; ours ran before and after the peer. Ours: "
        "the epoch's training; RecTools: `fit` of one epoch.\n\n" + table(results) + "\n"
    )
    (ROOT / "benchmarks" / "training_speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
