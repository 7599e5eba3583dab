"""Recall and time of the approximate index by how many candidates it compares at half precision.

    python benchmarks/index_recall.py [--items 1000000] [--k 500] [--queries 50]

Unit vectors of 64 numbers, around one center in a thousand items or isotropic (the worst case for
quantisation); queries are items with noise. Exact answers by a float32 product. One thread.
"""

import argparse
import time
from collections.abc import Sequence

import faiss
import numpy as np
from large_bundle import DIM, vectors_of

from serving.index import ApproximateIndex


def measure(kind: str, num_items: int, k: int, queries: int, factors: Sequence[int]) -> list[str]:
    rng = np.random.default_rng(0)
    vectors = vectors_of(kind, num_items, rng)
    noise = 0.3 * rng.standard_normal((queries, DIM)).astype(np.float32) / np.sqrt(DIM)
    asked = vectors[rng.integers(1, num_items + 1, queries)] + noise
    exact = []
    for query in asked:
        scores = vectors @ query
        scores[0] = -np.inf
        exact.append(set(np.argpartition(-scores, k)[:k].tolist()))
    started = time.thread_time()
    index = ApproximateIndex(vectors.astype(np.float16))
    built = time.thread_time() - started
    faiss.omp_set_num_threads(1)
    rows = []
    for factor in factors:
        index._index.k_factor = factor
        times, found = [], []
        for query, right in zip(asked, exact, strict=True):
            began = time.thread_time_ns()
            _, places = index._index.search(query[None], k)
            times.append((time.thread_time_ns() - began) / 1e6)
            found.append(len(right & {int(place) + 1 for place in places[0]}) / k)
        low, high = np.quantile(times, [0.5, 0.99])
        rows.append(
            f"| {kind} | {factor} | {np.mean(found):.4f} | {min(found):.3f} | {low:.2f} | "
            f"{high:.2f} | {built:.1f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--queries", type=int, default=50)
    options = parser.parse_args()
    k = options.k
    print(
        f"| vectors | refine factor | recall@{options.k} | worst query | p50 ms | p99 | build s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in ("clustered", "gaussian"):
        for row in measure(kind, options.items, k, options.queries, (4, 8, 12, 20, 40)):
            print(row)


if __name__ == "__main__":
    main()
