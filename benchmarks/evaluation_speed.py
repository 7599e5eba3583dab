"""Six metrics at four cut-offs over the same lists: ours, ir-measures, and RecTools if given.

    PYTHONPATH=. .venv/bin/python benchmarks/evaluation_speed.py --rectools /path/to/bin/python

Each times what its user would call, from tables in memory to numbers. Ours includes the check for
repeated items; the bootstrap (1,000 resamples of all 24 columns) is timed apart. RecTools needs an
environment of its own (numpy < 2).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

KS = (1, 5, 10, 100)
DEPTH, ITEMS = 100, 3_400

RECTOOLS = """
import sys, time
import numpy as np, pandas as pd
from rectools.metrics import MAP, MRR, NDCG, HitRate, Precision, Recall, calc_metrics
data = np.load(sys.argv[1])
users, depth = data["lists"].shape
reco = pd.DataFrame({"user_id": np.repeat(np.arange(users), depth),
                     "item_id": data["lists"].ravel(),
                     "rank": np.tile(np.arange(1, depth + 1), users)})
truth = pd.DataFrame({"user_id": data["users"], "item_id": data["items"]})
kinds = {"h": HitRate, "r": Recall, "p": Precision, "n": NDCG, "m": MRR, "a": MAP}
metrics = {f"{n}@{k}": kind(k=k) for n, kind in kinds.items() for k in (1, 5, 10, 100)}
start, busy = time.perf_counter(), time.process_time()
values = calc_metrics(metrics, reco=reco, interactions=truth)
print(time.perf_counter() - start, time.process_time() - busy, values["h@10"])
"""


def lists_and_truth(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    step = ITEMS // DEPTH
    lists = rng.integers(0, step, (users, DEPTH)) + np.arange(DEPTH) * step + 1
    lists = rng.permuted(lists, axis=1)
    counts = rng.integers(1, 6, users)
    owners = np.repeat(np.arange(users), counts)
    items = rng.integers(1, ITEMS + 1, len(owners))
    pairs = np.unique(np.stack([owners, items]), axis=1)
    return lists, pairs[0], pairs[1]


def timed(name: str, work: Callable[[], float]) -> float:
    start, busy = time.perf_counter(), time.process_time()
    hit_rate = work()
    return told(name, time.perf_counter() - start, time.process_time() - busy, hit_rate)


def told(name: str, wall: float, processor: float, hit_rate: float) -> float:
    print(f"{name:12} wall {wall:8.3f} s  processor {processor:8.3f} s  HR@10 {hit_rate:.6f}")
    return processor


def ours(lists: np.ndarray, users: np.ndarray, items: np.ndarray) -> tuple[float, np.ndarray]:
    from offline_eval.hits import Truth, check_lists, find_hits
    from offline_eval.metrics import average_precision, hit_rate, mrr, ndcg, precision, recall

    truth = Truth.of(users, items, len(lists))
    check_lists(lists, ITEMS)
    hits = find_hits(lists, truth)
    metrics = (hit_rate, recall, precision, ndcg, mrr, average_precision)
    values = [metric(hits[:, :k], truth.num_relevant) for metric in metrics for k in KS]
    return float(values[2].mean()), np.stack(values, axis=1)


def by_ir_measures(lists: np.ndarray, users: np.ndarray, items: np.ndarray) -> float:
    import ir_measures
    from ir_measures import AP, RR, P, R, Success, nDCG

    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(-rank))
        for user, row in enumerate(lists.tolist())
        for rank, item in enumerate(row)
    ]
    truth = [
        ir_measures.Qrel(str(user), str(item), 1)
        for user, item in zip(users.tolist(), items.tolist(), strict=True)
    ]
    measures = [kind @ k for kind in (Success, R, P, nDCG, RR, AP) for k in KS]
    return float(ir_measures.calc_aggregate(measures, truth, run)[Success @ 10])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=6_040)
    parser.add_argument("--rectools", type=Path)
    parser.add_argument("--skip-ir-measures", action="store_true")
    options = parser.parse_args()
    lists, users, items = lists_and_truth(options.users)
    print(f"{options.users:,} users x top {DEPTH}, {len(items):,} targets, cut-offs {KS}")
    ours(lists[:10], users[users < 10], items[users < 10])  # imports
    first = timed("ours", lambda: ours(lists, users, items)[0])
    if options.rectools:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lists.npz"
            np.savez(path, lists=lists, users=users, items=items)
            command = [str(options.rectools), "-W", "ignore", "-c", RECTOOLS, str(path)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds = told("RecTools", *map(float, printed.split()))
        print(f"{'':12} {seconds / first:.1f} times ours")
    if not options.skip_ir_measures:
        seconds = timed("ir-measures", lambda: by_ir_measures(lists, users, items))
        print(f"{'':12} {seconds / first:.1f} times ours")
    from offline_eval.significance import estimate_means

    _, values = ours(lists, users, items)
    timed("bootstrap", lambda: estimate_means(values)[2].value)


if __name__ == "__main__":
    sys.exit(main())
