"""Full ranking of users x 1 M items x 64 dimensions: every metric exactly, beside bare top-k.

    PYTHONPATH=. .venv/bin/python benchmarks/full_ranking.py --users 2048

Bare: blocked matrix product and top-100 by `numpy.argpartition`, by `torch.topk`, and by faiss's
fused `knn`, over the same vectors and blocks. Ours beside that: eight metrics at three cut-offs
with ties expected, AUC over all items, and the ordered lists. Memory does not depend on the number
of users beyond their own vectors, so a part of them shows the time of all.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

KS = (10, 50, 100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=2_048)
    parser.add_argument("--total-users", type=int, default=100_000, help="whose vectors are held")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--peers", action="store_true", help="also torch.topk and faiss.knn")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    items = rng.standard_normal((options.items + 1, options.dim), dtype=np.float32)
    users = rng.standard_normal((options.total_users, options.dim), dtype=np.float32)
    users = users[: options.users]
    targets = rng.integers(1, options.items + 1, options.users)
    held = peak()
    print(f"{options.users:,} of {options.total_users:,} users x {options.items:,} items x "
          f"{options.dim}; vectors and interpreter hold {held:.2f} GB")  # fmt: skip
    block = max((256 << 20) // (4 * items.shape[0]), 1)
    ours(users[:block], items, targets[:block])  # imports and first touches
    seconds = [timed("ours", lambda: ours(users, items, targets))]
    print(f"{'':12} peak memory {peak():.2f} GB")
    works = {"argpartition": lambda: by_numpy(users, items, block)}
    if options.peers:
        works |= {
            "torch.topk": lambda: by_torch(users, items, block),
            "faiss.knn": lambda: by_faiss(users, items),
        }
    for name, work in works.items():
        seconds.append(timed(name, work))
        print(f"{'':12} ours takes {seconds[0] / seconds[-1]:.2f} times as long")
    print(f"ours for {options.total_users:,} users: "
          f"{seconds[0] * options.total_users / options.users / 60:.1f} min")  # fmt: skip


def timed(name: str, work: Callable[[], float]) -> float:
    start, busy = time.perf_counter(), time.process_time()
    found = work()
    wall, processor = time.perf_counter() - start, time.process_time() - busy
    print(f"{name:12} wall {wall:8.2f} s  processor {processor:8.2f} s  HR@100 {found:.5f}")
    return processor


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def ours(users: np.ndarray, items: np.ndarray, targets: np.ndarray) -> float:
    from offline_eval.candidates import Candidates
    from offline_eval.full_ranking import rank_by_vectors
    from offline_eval.hits import Truth

    truth = Truth.of(np.arange(len(users)), targets, len(users))
    everything = Candidates.everything(len(users), len(items) - 1)
    hits = [
        answer.values()["hit_rate@100"]
        for _, answer in rank_by_vectors(users, items, truth, everything, KS)
    ]
    assert sum(map(len, hits)) == len(users)
    return float(np.concatenate(hits).mean())


def by_numpy(users: np.ndarray, items: np.ndarray, block: int) -> float:
    for start in range(0, len(users), block):
        scores = users[start : start + block] @ items.T
        best = np.argpartition(-scores, KS[-1], axis=1)[:, : KS[-1]]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        np.take_along_axis(best, order, axis=1)
    return float("nan")


def by_torch(users: np.ndarray, items: np.ndarray, block: int) -> float:
    import torch

    held = torch.from_numpy(items)
    for start in range(0, len(users), block):
        torch.topk(torch.from_numpy(users[start : start + block]) @ held.T, KS[-1])
    return float("nan")


def by_faiss(users: np.ndarray, items: np.ndarray) -> float:
    import faiss

    faiss.knn(users, items, KS[-1], metric=faiss.METRIC_INNER_PRODUCT)
    return float("nan")


if __name__ == "__main__":
    main()
