"""Six metrics at four cut-offs over the same lists: ours, RecTools, ranx and ir-measures.

    PYTHONPATH=. .venv/bin/python benchmarks/evaluation_speed.py \
        --rectools /path/to/rectools/bin/python --metrics /path/to/metrics/bin/python

Each times what its user would call, from tables in memory to numbers; the same HR@10 must come from
all. Ours includes the check for repeated items; 1,000 bootstrap resamples of all 24 columns are
timed apart. The peers need environments of their own: RecTools 0.19; ranx 0.3.21 and ir-measures
0.4.3. ranx compiles at first use, so it is called once before on a few users.
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

RANX = """
import sys, time
import numpy as np, pandas as pd
pd.set_option("future.infer_string", False)  # ranx 0.3.21 wants ids as objects
from ranx import Qrels, Run, evaluate
data = np.load(sys.argv[1])
names = [f"{m}@{k}" for m in ("hit_rate", "recall", "precision", "ndcg", "mrr", "map")
         for k in (1, 5, 10, 100)]
def inputs(users):
    lists = data["lists"][:users]
    depth = lists.shape[1]
    own = data["users"] < users
    truth = pd.DataFrame({"q_id": data["users"][own].astype(str).astype(object),
                          "doc_id": data["items"][own].astype(str).astype(object),
                          "score": np.ones(own.sum(), np.int64)})
    run = pd.DataFrame({"q_id": np.repeat(np.arange(users), depth).astype(str).astype(object),
                        "doc_id": lists.ravel().astype(str).astype(object),
                        "score": np.tile(np.arange(depth, 0, -1.0), users)})
    return (Qrels.from_df(truth, q_id_col="q_id", doc_id_col="doc_id", score_col="score"),
            Run.from_df(run, q_id_col="q_id", doc_id_col="doc_id", score_col="score"))
evaluate(*inputs(20), names)
tables = inputs(len(data["lists"]))
start, busy = time.perf_counter(), time.process_time()
values = evaluate(*tables, names)
print(time.perf_counter() - start, time.process_time() - busy, values["hit_rate@10"])
"""

IR_MEASURES = """
import sys, time
import numpy as np, ir_measures
from ir_measures import AP, RR, P, R, Success, nDCG
data = np.load(sys.argv[1])
start, busy = time.perf_counter(), time.process_time()
run = [ir_measures.ScoredDoc(str(user), str(item), float(-rank))
       for user, row in enumerate(data["lists"].tolist()) for rank, item in enumerate(row)]
truth = [ir_measures.Qrel(str(user), str(item), 1)
         for user, item in zip(data["users"].tolist(), data["items"].tolist())]
measures = [kind @ k for kind in (Success, R, P, nDCG, RR, AP) for k in (1, 5, 10, 100)]
values = ir_measures.calc_aggregate(measures, truth, run)
print(time.perf_counter() - start, time.process_time() - busy, values[Success @ 10])
"""


def lists_and_truth(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    step = ITEMS // DEPTH
    lists = rng.integers(0, step, (users, DEPTH)) + np.arange(DEPTH) * step + 1
    lists = rng.permuted(lists, axis=1)
    counts = rng.integers(1, 6, users)
    owners = np.repeat(np.arange(users), counts)
    keys = np.unique(owners * (ITEMS + 1) + rng.integers(1, ITEMS + 1, len(owners)))
    return lists.astype(np.int32), *np.divmod(keys, ITEMS + 1)


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=6_040)
    parser.add_argument("--rectools", type=Path)
    parser.add_argument("--metrics", type=Path, help="python with ranx and ir-measures")
    parser.add_argument("--skip", nargs="*", default=[], help="rectools, ranx, ir-measures")
    options = parser.parse_args()
    lists, users, items = lists_and_truth(options.users)
    print(f"{options.users:,} users x top {DEPTH}, {len(items):,} targets, cut-offs {KS}")
    ours(lists[:10], users[users < 10], items[users < 10])  # imports
    first = min(timed("ours", lambda: ours(lists, users, items)[0]) for _ in range(3))
    peers = {
        "rectools": (options.rectools, RECTOOLS),
        "ranx": (options.metrics, RANX),
        "ir-measures": (options.metrics, IR_MEASURES),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lists.npz"
        np.savez(path, lists=lists, users=users, items=items)
        for name, (python, code) in peers.items():
            if python is None or name in options.skip:
                continue
            command = [str(python), "-W", "ignore", "-c", code, str(path)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds = told(name, *map(float, printed.split()[-3:]))
            print(f"{'':12} {seconds / first:.1f} times ours")
    from offline_eval.significance import estimate_means

    _, values = ours(lists, users, items)
    timed("bootstrap", lambda: estimate_means(values)[2].value)


if __name__ == "__main__":
    sys.exit(main())
