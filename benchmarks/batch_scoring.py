"""Users a second through `recsys score` beside the bare kernels on the same histories.

    python benchmarks/batch_scoring.py --items 100000 --users 10000 100000

The bundle holds an untrained SASRec (max_len 50, dim 64, 2 blocks) and item vectors in clusters;
histories are random items, 5 to 95 events. Bare kernels: onnxruntime on histories that are encoded
already, in the job's own batches of like length, and the products and running top k of the job's
own index. The job does what it does for people: a command of its own that starts Python, reads
Parquet, looks up raw ids, leaves out the seen, writes and syncs Parquet with raw ids, keeps its
journal, checks the result. `share` compares processor time, which other work on the machine
disturbs least: of the whole command, start included. "at once, of one": what as many processes of
bare kernels do by the clock, of what one does, is the machine's own limit; beside it the command's
and that of its job (without Python's start and the opening of the bundle). One thread a process.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from features.encode import Histories, encode_histories
from features.layout import CATALOGUE, ITEMS, DatasetSchema, vocabulary_file
from features.store import write_table
from recsys.export.onnx import export_encoder
from recsys.models.sasrec import SASRec, SASRecConfig
from serving.bundle import seal, write_bundle
from serving.index import SCORE_CHUNK, BlockedIndex, VectorIndex
from serving.jobs.executors import ONE_THREAD as THREADS
from serving.jobs.outputs import model_source
from serving.manifest import Manifest, ModelSpec, PopularitySpec
from serving.recommender import Recommender
from serving.running_top import RunningTop

MAX_LEN, DIM, BATCH = 50, 64, 256
CUTOFF = 1_700_000_000_000_000


def write_benchmark_bundle(out: Path, num_items: int) -> None:
    """A bundle of one model and popularity."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(num_items=num_items, max_len=MAX_LEN, dim=DIM)).eval()
    centres = rng.standard_normal((max(num_items // 100, 1), DIM))
    vectors = centres[rng.integers(0, len(centres), num_items + 1)]
    vectors = (vectors + 0.5 * rng.standard_normal(vectors.shape)).astype(np.float16)
    vectors[0] = 0
    schema = DatasetSchema(
        num_users=1, num_items=num_items, num_warm_items=num_items, cold_targets="keep",
        num_events=1, event_types=("view",), target_events=("view",), item_columns=(),
        title_column="", raw_item_type="int", raw_user_type="int", cutoff=CUTOFF, split={},
    )  # fmt: skip
    ids = np.arange(1, num_items + 1) * 7
    with write_bundle(out) as directory:
        export_encoder(model, {}, num_items, directory / "model.encoder.onnx")
        np.save(directory / "model.vectors.npy", vectors)
        np.save(directory / "popularity.scores.npy", np.ones(num_items + 1, np.float32))
        schema.write(directory)
        write_table(directory / vocabulary_file("item"), {"id": ids})
        write_table(directory / ITEMS, {"id": np.arange(num_items + 1)})
        pl.DataFrame({"item_id": ids}).write_parquet(directory / CATALOGUE)
        spec = ModelSpec(
            name="model", model="sasrec", encoder="model.encoder.onnx", inputs=("items",),
            vectors="model.vectors.npy", max_len=MAX_LEN, dim=DIM, candidates=200,
        )  # fmt: skip
        popular = PopularitySpec(name="popularity", scores="popularity.scores.npy", candidates=200)
        seal(directory, Manifest(dataset="0" * 64, run="", num_items=num_items,
                                 sources=(spec, popular), config={}))  # fmt: skip


def write_events(path: Path, users: int, num_items: int, first: int = 0) -> None:
    """Random histories with raw ids, of users numbered from `first`."""
    rng = np.random.default_rng(1 + first)
    lengths = rng.integers(5, 96, users)
    total = int(lengths.sum())
    pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(first, first + users), lengths),
            "item_id": rng.integers(1, num_items + 1, total) * 7,
            "timestamp": np.arange(total) + CUTOFF,
        }
    ).write_parquet(path)


def bare_seconds(recommender: Recommender, events: Path, k: int) -> float:
    """Processor seconds of onnxruntime and of the index for everybody in `events`."""
    source = model_source(recommender)
    asked = recommender.reader.read_frame(pl.read_parquet(events)).histories
    order = np.argsort(asked.lengths, kind="stable")
    seconds = 0.0
    for first in range(0, len(order), BATCH):
        batch: Histories = asked.take(order[first : first + BATCH])
        inputs = encode_histories(batch, source.inputs, source.max_len)
        started = time.process_time()
        (queries,) = source.graph.run(None, inputs)
        search(source.index, np.asarray(queries), k)
        seconds += time.process_time() - started
    return seconds


def bare_rate(bundle: Path, events: Path, k: int, processes: int) -> float:
    """Users a second of the bare kernels, by the clock, with so many processes at once.

    What the machine gives: two processes on two threads of one core are not twice one.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_meet_at, initargs=(barrier,)) as pool:
        told = [(str(bundle), str(events), k)] * processes
        spans = pool.starmap(_bare_span, told, chunksize=1)
    users = pl.scan_parquet(events).select(pl.col("user_id").n_unique()).collect().item()
    return processes * users / (max(end for _, end in spans) - min(start for start, _ in spans))


_barrier: Any = None


def _meet_at(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _bare_span(bundle: str, events: str, k: int) -> tuple[float, float]:
    recommender = Recommender.load(Path(bundle), batches=True)
    _barrier.wait()
    started = time.time()
    bare_seconds(recommender, Path(events), k)
    return started, time.time()


def search(index: VectorIndex, queries: np.ndarray, k: int) -> None:
    """The kernels of exact search alone: products, and the best of them."""
    vectors = index._vectors_VD if isinstance(index, BlockedIndex) else index._items_DV.T
    queries_DB, found = np.ascontiguousarray(queries.T), RunningTop(len(queries), k)
    for start in range(1, len(vectors), SCORE_CHUNK):
        chunk = vectors[start : start + SCORE_CHUNK].astype(np.float32, copy=False)
        found.add(chunk @ queries_DB, start)
    found.best()


@dataclass(frozen=True)
class Run:
    """One command: by the clock, of that the job, of processor time, greatest process."""

    seconds: float
    job: float
    used: float
    peak_mib: float


def run_command(root: Path, events: Path, options: argparse.Namespace, processes: int) -> Run:
    """`recsys score` as a user starts it, on one thread a process."""
    out = root / f"{events.stem}-{processes}"
    command = [
        sys.executable, "-c", "from recsys.cli import main; main()", "score", str(root / "bundle"),
        str(events), "--out", str(out), "-k", str(options.k), "--processes", str(processes),
        "--part-size", str(options.part_size),
    ]  # fmt: skip
    environment = os.environ | dict.fromkeys(THREADS, "1")
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, not every time
    started = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(child.returncode)
    job = json.loads((out / "report.json").read_text())["seconds"]
    return Run(seconds, job, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def sizes(description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark of this bundle."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    return parser


@contextmanager
def prepared(options: argparse.Namespace) -> Iterator[Path]:
    """A folder with the bundle, gone in the end; every module that a command takes is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_benchmark_bundle(root / "bundle", options.items)
        write_events(root / "warm.parquet", 100, options.items)
        run_command(root, root / "warm.parquet", options, 1)
        yield root


def main() -> None:
    """Measure and print one line a size."""
    parser = sizes(__doc__)
    parser.add_argument("--part-size", type=int, default=5_000)
    options = parser.parse_args()
    print(f"{options.items:,} items, k = {options.k}, load {os.getloadavg()[0]:.1f}")
    print(
        "| users | processes | command s | job s | users/s of the job | processor s "
        "| bare kernels, processor s | share | command, of one | job, of one "
        "| bare kernels at once, of one | peak MiB |\n|" + "---|" * 12
    )
    with prepared(options) as root:
        for users in options.users:
            measure(root, users, options)


def measure(root: Path, users: int, options: argparse.Namespace) -> None:
    """The lines of one number of users."""
    events = root / f"events-{users}.parquet"
    write_events(events, users, options.items)
    bare = bare_seconds(Recommender.load(root / "bundle", batches=True), events, options.k)
    alone = bare_rate(root / "bundle", events, options.k, 1)
    first: Run | None = None
    for processes in options.processes:
        together = bare_rate(root / "bundle", events, options.k, processes)
        run = run_command(root, events, options, processes)
        first = first or run
        print(
            f"| {users:,} | {processes} | {run.seconds:.1f} | {run.job:.1f} "
            f"| {users / run.job:,.0f} | {run.used:.1f} | {bare:.1f} | {bare / run.used:.2f} "
            f"| {first.seconds / run.seconds:.2f} | {first.job / run.job:.2f} "
            f"| {together / alone:.2f} | {run.peak_mib:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
