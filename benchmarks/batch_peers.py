r"""Top 10 of every MovieLens-1M user: `recsys score` beside RecTools and RecBole, in one run.

    python benchmarks/batch_peers.py --run RUN --dataset DATASET \
        --rectools PYTHON --recbole PYTHON

RUN and DATASET are stages of configs/sasrec-ml-1m-time.toml; the bundle is exported anew without a
ranker, so that all three do the same: SASRec of max_len 200, width 64, 2 blocks, over histories of
all events, seen items left out. PYTHON is an interpreter that has the peer (rectools[torch] 0.19.0,
recbole 1.2.1); their weights are hardly trained, which changes no time. Ours is the whole command:
Python's start, opening the bundle, reading, scoring, Parquet on disk. The peers' time is that of
the call that recommends, after imports, fitting and dataset. Two threads (or processes) for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

K, MAX_LEN, DIM, BLOCKS, HEADS = 10, 200, 64, 2, 2
EXPORT = """
[data]
source = "movielens-1m"
[export]
sources = ["model", "popularity"]
"""


def write_events(dataset: Path, folder: Path) -> None:
    """All events as users.npy and items.npy, each user's oldest first."""
    import numpy as np

    from features.store import Dataset

    data = Dataset.open(dataset)
    starts, ends = data.cuts["start"], data.cuts["test_end"]
    np.save(folder / "users.npy", np.repeat(np.arange(len(starts)), ends - starts))
    np.save(folder / "items.npy", np.asarray(data.items).astype(np.int64))


def rectools(folder: Path) -> float:
    """Seconds of RecTools' `recommend`."""
    import numpy as np
    import pandas as pd
    import torch
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(2)
    users, items = np.load(folder / "users.npy"), np.load(folder / "items.npy")

    def dataset(users: np.ndarray, items: np.ndarray) -> Dataset:
        frame = {Columns.User: users, Columns.Item: items, Columns.Weight: 1.0}
        order = pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(users)), unit="s")
        return Dataset.construct(pd.DataFrame({**frame, Columns.Datetime: order}))

    known = np.unique(items)
    few = dataset(np.arange(len(known)) // MAX_LEN, known)  # every item, few users: quickly fitted
    model = SASRecModel(
        n_factors=DIM, n_blocks=BLOCKS, n_heads=HEADS, session_max_len=MAX_LEN, batch_size=128,
        epochs=1, loss="softmax",
    )  # fmt: skip
    model.fit(few)
    whole = dataset(users, items)
    started = time.perf_counter()
    found = model.recommend(np.unique(users), whole, k=K, filter_viewed=True)
    seconds = time.perf_counter() - started
    assert found[Columns.User].nunique() == len(np.unique(users))
    return seconds


def recbole(folder: Path) -> float:
    """Seconds of RecBole's full-sort prediction and top k, 256 users at a time."""
    import numpy as np

    for name in ("float", "bool", "int"):  # RecBole 1.2 uses names that numpy has dropped
        if name not in np.__dict__:
            setattr(np, name, getattr(__builtins__, name))
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec
    from recbole.utils.case_study import full_sort_topk

    torch.set_num_threads(2)
    users, items = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    (folder / "ml").mkdir(exist_ok=True)
    with (folder / "ml" / "ml.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for row, (user, item) in enumerate(zip(users, items, strict=True)):
            file.write(f"{user}\t{item}\t{row}\n")
    options = {
        "data_path": str(folder), "MAX_ITEM_LIST_LENGTH": MAX_LEN, "hidden_size": DIM,
        "n_layers": BLOCKS, "n_heads": HEADS, "inner_size": DIM, "train_neg_sample_args": None,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "state": "ERROR", "show_progress": False,
    }  # fmt: skip
    sys.argv = sys.argv[:1]
    config = Config(model="SASRec", dataset="ml", config_dict=options)
    dataset = create_dataset(config)
    _, _, test = data_preparation(config, dataset)
    model = SASRec(config, test.dataset).eval()
    inner = np.arange(1, dataset.user_num)
    started = time.perf_counter()
    with torch.no_grad():
        for first in range(0, len(inner), 256):
            full_sort_topk(inner[first : first + 256], model, test, k=K, device="cpu")
    return time.perf_counter() - started


PEERS = {"rectools": rectools, "recbole": recbole}


def ours(bundle: Path, dataset: Path, out: Path, processes: int) -> tuple[float, float]:
    """Seconds of the whole command, and of the job inside it."""
    recsys = [sys.executable, "-c", "from recsys.cli import main; main()"]
    command = [*recsys, "score", str(bundle), str(dataset), "--out", str(out), "-k", str(K)]
    command += ["--processes", str(processes), "--part-size", "3020"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    return seconds, json.loads((out / "report.json").read_text())["seconds"]


def peer_seconds(name: str, python: str, folder: Path) -> float:
    """The peer in its own environment."""
    command = [python, __file__, "--peer", name, "--folder", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--rectools")
    parser.add_argument("--recbole")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.peer:
        print(PEERS[options.peer](options.folder))
        return
    from recsys.config import read_config
    from recsys.pipeline import export_stage

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "export.toml").write_text(EXPORT)
        config = read_config(folder / "export.toml")
        export_stage(config, options.run, options.dataset, folder / "bundle")
        write_events(options.dataset, folder)
        print("| | seconds, median | times ours |\n|---|---|---|")
        found = {}
        for processes in (1, 2):
            times = [
                ours(folder / "bundle", options.dataset, folder / f"o{processes}-{n}", processes)
                for n in range(options.repeats)
            ]
            label = f"`recsys score`, {processes} process{'es' * (processes > 1)}"
            found[f"{label}: whole command"] = statistics.median(one for one, _ in times)
            found[f"{label}: the job"] = statistics.median(job for _, job in times)
        for peer in PEERS:
            if python := getattr(options, peer):
                times = [peer_seconds(peer, python, folder) for _ in range(options.repeats)]
                found[peer] = statistics.median(times)
        base = min(seconds for label, seconds in found.items() if "whole" in label)
        for label, seconds in found.items():
            print(f"| {label} | {seconds:.2f} | {seconds / base:.1f} |", flush=True)


if __name__ == "__main__":
    main()
