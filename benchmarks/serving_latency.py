"""`recommend` in two stages beside its bare kernels and beside plain PyTorch + faiss + LightGBM.

    python benchmarks/large_bundle.py work/1m --items 1000000    # 500 candidates
    OMP_NUM_THREADS=1 python benchmarks/serving_latency.py work/1m [--requests 400] [--peer]
    OMP_NUM_THREADS=1 python benchmarks/serving_latency.py work/1m --processes 2

One thread, one process, histories of 50, 500 candidates ranked on 28 features, k = 10. In every
round, each over the history of another round: (a) `recommend`; (b) the kernels alone, with inputs
in arrays: onnxruntime on the history, faiss for as many items as (a) asks, a gather of 28 numbers
for each candidate (the features of the request, laid ready), onnxruntime on the 500 rows, the ten
best. --peer: (c) the same stages written
plainly: torch, faiss flat (what one takes first), numpy gathers, trees by the same graph,
torch.topk. Given: thread time and wall clock, medians and 99th percentiles. `at` is a day after the
log ends, as for a service. --processes: only requests a second of one process, and of several, each
on a processor of its own.
"""

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from serving.block import Block
from serving.model_source import ModelSource
from serving.ranker import Ranker
from serving.recommender import Recommender
from serving.topk import top_k

K, LENGTH, FEATURES, WARM_UP = 10, 50, 28, 30
DAY = 86_400_000_000


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of wall clock, and of this thread's processor time."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    call()
    return (time.perf_counter_ns() - wall) / 1e6, (time.thread_time_ns() - cpu) / 1e6


class Kernels:
    """What nobody can do without, on inputs that lie ready."""

    def __init__(self, recommender: Recommender) -> None:
        source = recommender.pipeline.sources[0]
        assert isinstance(source, ModelSource)
        self.source, self.recommender = source, recommender
        assert isinstance(recommender.pipeline.ranker, Ranker)
        self.graph = recommender.pipeline.ranker.graph
        rng = np.random.default_rng(0)
        self.numbers = rng.random((recommender.num_items + 1, FEATURES)).astype(np.float32)

    def prepare(self, history: NDArray[np.int64], at: int) -> None:
        """Lay the features of a history's candidates ready: trees take as long as their inputs
        are hard to foresee, so they must be those of the request.
        """
        recommender, pipeline = self.recommender, self.recommender.pipeline
        block = Block.of(Histories.of([history]), np.array([at]), recommender.num_items)
        found = pipeline.propose(block, recommender.policy)
        assert pipeline.ranker is not None
        self.numbers[found.items[0]] = pipeline.ranker.prepare(block, found)[0]

    def inputs(self, history: NDArray[np.int64]) -> dict[str, NDArray]:
        return encode_histories(Histories.of([history]), self.source.inputs, LENGTH, {})

    def search(self, query: NDArray[np.float32], seen: int) -> NDArray[np.int64]:
        depth = self.source.candidates + seen
        index = getattr(self.source.index, "_index", None)
        if index is not None:
            return index.search(query, depth)[1][0, : self.source.candidates] + 1
        scores = query @ self.source.index._items_DV
        scores[:, 0] = -np.inf
        return top_k(scores, depth)[0][0, : self.source.candidates]

    def run(self, encoded: dict[str, NDArray], seen: int) -> NDArray:
        query = np.asarray(self.source.graph.run(None, encoded)[0])
        items = self.search(query, seen)
        scores = np.asarray(self.graph.run(None, {"features": self.numbers[items]})[0]).reshape(-1)
        best = np.argpartition(-scores, K)[:K]
        return items[best[np.argsort(-scores[best])]]


class Plain:
    """The same pipeline as one would first write it: torch, a flat index, the same trees."""

    def __init__(self, kernels: Kernels) -> None:
        import torch

        from recsys.models.sasrec import SASRec, SASRecConfig

        torch.set_num_threads(1)
        self.torch, self.kernels = torch, kernels
        source = kernels.source
        config = SASRecConfig(num_items=kernels.recommender.num_items, max_len=LENGTH, dim=64)
        self.model = SASRec(config).eval()
        vectors = np.asarray(source.vectors_VD).astype(np.float32)
        with torch.no_grad():
            self.model.item.weight.copy_(torch.from_numpy(vectors))
        self.index = faiss.IndexFlatIP(64)
        self.index.add(vectors[1:])

    def run(self, encoded: dict[str, NDArray], seen: set[int]) -> list[int]:
        torch = self.torch
        with torch.inference_mode():
            states = self.model(torch.from_numpy(encoded["items"]))
            query = states[:, -1].numpy()
        _, rows = self.index.search(query, self.kernels.source.candidates + len(seen))
        found = [row + 1 for row in rows[0].tolist() if row + 1 not in seen]
        items = found[: self.kernels.source.candidates]
        numbers = self.kernels.numbers[items]
        scores = np.asarray(self.kernels.graph.run(None, {"features": numbers})[0]).reshape(-1)
        return [items[n] for n in torch.topk(torch.from_numpy(scores), K).indices.tolist()]


def measure(bundle: Path, requests: int, *, peer: bool) -> dict[str, NDArray[np.float64]]:
    faiss.omp_set_num_threads(1)
    recommender = Recommender.load(bundle)
    kernels = Kernels(recommender)
    plain = Plain(kernels) if peer else None
    at = recommender.schema.cutoff + DAY
    rng = np.random.default_rng(1)
    histories = rng.integers(1, recommender.num_items + 1, (requests + WARM_UP + 2, LENGTH))
    times: dict[str, list[tuple[float, float]]] = {"recommend": [], "bare kernels": []}
    if plain:
        times["plain torch + flat faiss"] = []
    for number in range(requests + WARM_UP):
        raw = [recommender.reader.raw_ids[item] for item in histories[number].tolist()]
        encoded = kernels.inputs(histories[number + 1])
        kernels.prepare(histories[number + 1], at)
        found = {
            "recommend": timed(lambda raw=raw: recommender.recommend(raw, k=K, at=at)),
            "bare kernels": timed(lambda encoded=encoded: kernels.run(encoded, LENGTH)),
        }
        if plain:
            other = kernels.inputs(histories[number + 2])
            seen = set(histories[number + 2].tolist())
            kernels.prepare(histories[number + 2], at)
            found["plain torch + flat faiss"] = timed(lambda a=other, b=seen: plain.run(a, b))
        if number >= WARM_UP:
            for name, pair in found.items():
                times[name].append(pair)
    return {name: np.array(values) for name, values in times.items()}


def stages(bundle: Path, requests: int) -> str:
    """Thread time of each stage of `recommend`, median ms."""
    recommender = Recommender.load(bundle)
    pipeline = recommender.pipeline
    source, ranker = pipeline.sources[0], pipeline.ranker
    assert isinstance(source, ModelSource)
    assert ranker is not None
    rng = np.random.default_rng(2)
    found: dict[str, list[float]] = {}

    def note(name: str, call: Callable[[], object]) -> object:
        results: list[object] = []
        found.setdefault(name, []).append(timed(lambda: results.append(call()))[1])
        return results[0]

    for _ in range(requests):
        raw = [
            recommender.reader.raw_ids[i]
            for i in rng.integers(1, recommender.num_items, LENGTH).tolist()
        ]
        request = note(
            "read", lambda raw=raw: recommender.reader.read(raw, recommender.schema.cutoff + DAY)
        )
        block = Block.of(request.histories, request.at, recommender.num_items)  # pyright: ignore
        query = note("encode", lambda b=block: source.encode(b.histories))
        note(
            "search and filter",
            lambda q=query, b=block: source.index.search(
                q, b, recommender.policy, source.candidates
            ),
        )
        candidates = note("all of propose", lambda b=block: pipeline.propose(b, recommender.policy))
        features = note("features", lambda b=block, c=candidates: ranker.prepare(b, c))
        note("trees", lambda f=features, c=candidates: ranker.score_part(f, c.items, slice(None)))
    rows = [f"{name} {np.median(values[5:]):.2f}" for name, values in found.items()]
    return "Stages, thread time, median ms: " + ", ".join(rows) + "."


def table(times: dict[str, NDArray[np.float64]]) -> str:
    lines = ["| timed | thread p50 ms | p99 | wall p50 ms | p99 |", "|---|---:|---:|---:|---:|"]

    def figures(name: str) -> NDArray[np.float64]:
        return np.quantile(times[name], [0.5, 0.99], axis=0).T.ravel()[[2, 3, 0, 1]]

    for name in times:
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in figures(name)) + " |")
    over = figures("recommend") / figures("bare kernels") - 1
    lines.append(
        "| overhead over the bare kernels | " + " | ".join(f"{v:+.0%}" for v in over) + " |"
    )
    return "\n".join(lines)


def _work(bundle: Path, processor: int, seconds: float, begin: Any, counts: Any) -> None:
    os.sched_setaffinity(0, {processor})
    recommender = Recommender.load(bundle)
    at, rng = recommender.schema.cutoff + DAY, np.random.default_rng(processor)
    raw_ids = recommender.reader.raw_ids
    rows = rng.integers(1, recommender.num_items + 1, (2_000, LENGTH)).tolist()
    histories = [[raw_ids[item] for item in row] for row in rows]
    for history in histories[:WARM_UP]:
        recommender.recommend(history, k=K, at=at)
    begin.wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        recommender.recommend(histories[done % len(histories)], k=K, at=at)
        done += 1
    counts.put(done / seconds)


def rate(bundle: Path, processes: int, seconds: float = 8.0) -> float:
    """Requests a second of so many processes together."""
    context = multiprocessing.get_context("spawn")
    begin, counts = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(bundle, number, seconds, begin, counts))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    total = sum(counts.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    if options.processes:
        one, several = rate(options.bundle, 1), rate(options.bundle, options.processes)
        print(
            f"{one:.0f} requests/s by one process, {several:.0f} by {options.processes}: ", end=""
        )
        print(f"x{several / one:.2f}, load {os.getloadavg()[0]:.1f}")
        return
    times = measure(options.bundle, options.requests, peer=options.peer)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, {platform.machine()}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, {options.requests} requests\n")
    print(table(times))
    print("\n" + stages(options.bundle, 60))


if __name__ == "__main__":
    main()
