"""Recall and time of the approximate index by how many candidates it compares at half precision.

    python benchmarks/index_recall.py [--items 1000000] [--k 500] [--queries 50]
    python benchmarks/index_recall.py --bundle BUNDLE --dataset DATASET   a trained model's vectors
    python benchmarks/index_recall.py --log interactions.parquet          iALS, trained here

Synthetic: unit vectors of 64 numbers, around one center in a thousand items or isotropic (the worst
case for quantisation); queries are items with noise. A bundle: item vectors, and the histories of
the validation cases encoded. A log (user_id, item_id): 64 factors, five rounds, queries are users;
as they are, and scaled to a mean square of 1 (half precision loses what is very small). Exact
answers by a float32 product; refine 0 is half precision alone; the index is asked even where
serving would search exactly. One thread.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from large_bundle import DIM, vectors_of
from numpy.typing import NDArray

from serving.index import ApproximateIndex

Vectors = NDArray[np.float32]


def synthetic(kind: str, num_items: int, queries: int) -> tuple[Vectors, Vectors]:
    """(N + 1, D) vectors, row 0 zero, and (Q, D) queries."""
    rng = np.random.default_rng(0)
    vectors = vectors_of(kind, num_items, rng)
    noise = 0.3 * rng.standard_normal((queries, DIM)).astype(np.float32) / np.sqrt(DIM)
    return vectors, vectors[rng.integers(1, num_items + 1, queries)] + noise


def of_bundle(bundle: Path, dataset: Path, queries: int) -> tuple[Vectors, Vectors]:
    from features.store import Dataset
    from serving.model_source import ModelSource
    from serving.recommender import Recommender

    source = Recommender.load(bundle).pipeline.sources[0]
    assert isinstance(source, ModelSource)
    data = Dataset.open(dataset)
    histories = data.histories(data.cases("validation"))
    rows = np.linspace(0, len(histories) - 1, queries).astype(np.int64)
    return source.vectors_VD.astype(np.float32), source.encode(histories.take(rows))


def of_log(path: Path, queries: int) -> tuple[Vectors, Vectors]:
    import polars as pl
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    log = pl.read_parquet(path, columns=["user_id", "item_id"])
    users, items = (log[name].rank("dense").to_numpy() - 1 for name in ("user_id", "item_id"))
    counts = csr_matrix((np.ones(len(users), np.float32), (users, items)))
    model = AlternatingLeastSquares(factors=DIM, iterations=5, num_threads=1, random_state=0)
    model.fit(counts, show_progress=False)
    drawn = np.random.default_rng(0).integers(0, counts.shape[0], queries)
    vectors = np.asarray(model.item_factors, np.float32)
    padded = np.concatenate([np.zeros((1, DIM), np.float32), vectors])
    return padded, np.asarray(model.user_factors, np.float32)[drawn]


def measure(
    name: str, vectors: Vectors, asked: Vectors, k: int, factors: Sequence[int]
) -> list[str]:
    exact = []
    for query in asked:
        scores = vectors @ query
        scores[0] = -np.inf
        exact.append(set(np.argpartition(-scores, k)[:k].tolist()))
    started = time.thread_time()
    half = vectors.astype(np.float16)
    index = ApproximateIndex(half)
    built = time.thread_time() - started
    faiss.omp_set_num_threads(1)
    rows = []
    for factor in factors:
        index = index.refined(factor) if factor else ApproximateIndex(half, 0)
        times, found = [], []
        for query, right in zip(asked, exact, strict=True):
            began = time.thread_time_ns()
            _, places = index._index.search(query[None], k)
            times.append((time.thread_time_ns() - began) / 1e6)
            found.append(len(right & {int(place) + 1 for place in places[0]}) / k)
        low, high = np.quantile(times, [0.5, 0.99])
        rows.append(
            f"| {name} | {len(vectors) - 1:,} | {factor} | {np.mean(found):.4f} | "
            f"{min(found):.3f} | {low:.2f} | {high:.2f} | {built:.1f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    k, queries = options.k, options.queries
    print(f"| vectors | items | refine | recall@{k} | worst query | p50 ms | p99 | build s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    if options.bundle:
        given = {"bundle": of_bundle(options.bundle, options.dataset, queries)}
    elif options.log:
        vectors, asked = of_log(options.log, queries)
        name, size = options.log.parent.name, float(np.sqrt((vectors**2).mean()))
        given = {name: (vectors, asked), f"{name}, scaled": (vectors / size, asked)}
    else:
        kinds = ("clustered", "gaussian")
        given = {kind: synthetic(kind, options.items, queries) for kind in kinds}
    for name, (vectors, asked) in given.items():
        for row in measure(name, vectors, asked, k, (4, 8, 12, 20, 40, 0)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
