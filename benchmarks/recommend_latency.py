"""What `Recommender.recommend` costs one user, beside the onnxruntime and faiss calls alone.

    python benchmarks/recommend_latency.py BUNDLE DATASET [--requests 2000]

In one process, on one thread, over the same users: (a) `recommend(history, k=10)` from raw item
ids to raw item ids with titles; (b) the same encoded history through the onnxruntime session, and
a faiss inner-product search for the k best and as many more as the user has seen, already in
arrays. The overhead is what is between: looking up ids, encoding, filters, ties, the answer.
(a) and (b) alternate, (b) with the user of the round before: as in service no call finds the
caches filled by the one before it with the same history.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from features.store import Dataset
from serving.model_source import ModelSource
from serving.recommender import Recommender

K = 10
WARM_UP = 100


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall clock, and processor time of this thread."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    call()
    return (time.perf_counter_ns() - wall) / 1_000, (time.thread_time_ns() - cpu) / 1_000


def build_flat_index(recommender: Recommender, bundle: Path) -> faiss.Index:
    spec = recommender.manifest.sources[0]
    assert spec.kind == "model"
    vectors = np.load(bundle / spec.vectors, allow_pickle=False).astype(np.float32)
    index = faiss.IndexFlatIP(spec.dim)
    index.add(vectors[1:])
    return index


def time_bare(
    source: ModelSource, index: faiss.Index, encoded: dict[str, NDArray], depth: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The two calls that nobody can do without."""
    query = []
    encode = microseconds(lambda: query.extend(source.graph.run(None, encoded)))
    return encode, microseconds(lambda: index.search(query[0], min(depth, index.ntotal)))


def measure(bundle: Path, dataset: Path, requests: int) -> dict[str, NDArray[np.float64]]:
    """Microseconds of each request by what was timed, (requests, 2): wall clock, thread time."""
    recommender = Recommender.load(bundle)
    source = recommender.pipeline.sources[0]
    assert isinstance(source, ModelSource), "the first source of the bundle must be a model"
    index = build_flat_index(recommender, bundle)
    faiss.omp_set_num_threads(1)
    data = Dataset.open(dataset)
    histories = data.histories(data.cases("test"))
    raw_ids = data.vocabulary("item").to_pylist()
    rng = np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {"recommend": [], "onnxruntime": [], "faiss": []}
    before: Histories | None = None
    for number in range(requests + WARM_UP):
        one = histories.take(rng.integers(0, len(histories), 1))
        raw = [raw_ids[item - 1] for item in one.items[one.starts[0] : one.ends[0]]]
        whole = microseconds(lambda raw=raw: recommender.recommend(raw, k=K))
        if before is not None:
            encoded = encode_histories(
                before, source.inputs, source.max_len, recommender.item_table
            )
            seen = np.unique(before.items[before.starts[0] : before.ends[0]])
            encode, search = time_bare(source, index, encoded, K + len(seen))
            if number >= WARM_UP:
                times["onnxruntime"].append(encode)
                times["faiss"].append(search)
                times["recommend"].append(whole)
        before = one
    results = {name: np.array(values) for name, values in times.items()}
    results["bare sum"] = results["onnxruntime"] + results["faiss"]
    return results


def table(times: dict[str, NDArray[np.float64]]) -> str:
    """Median and 99th percentile; thread time is free of what else the machine does."""
    lines = [
        "| timed | thread time, median us | p99 | wall clock, median us | p99 |",
        "|---|---:|---:|---:|---:|",
    ]

    def figures(name: str) -> NDArray[np.float64]:
        return np.quantile(times[name], [0.5, 0.99], axis=0).T.ravel()[[2, 3, 0, 1]]

    for name in ("onnxruntime", "faiss", "bare sum", "recommend"):
        lines.append(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in figures(name)) + " |")
    overhead = figures("recommend") / figures("bare sum") - 1
    cells = " | ".join(f"{value:+.0%}" for value in overhead)
    lines.append(f"| overhead of recommend over the bare sum | {cells} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--requests", type=int, default=2_000)
    options = parser.parse_args(arguments)
    times = measure(options.bundle, options.dataset, options.requests)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, {platform.machine()}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, {options.requests} requests\n")
    print(table(times))


if __name__ == "__main__":
    main()
