r"""From one file of events to sequences that a model can train on: here and in three peers.

    RECSYS_DATA=<folder> python benchmarks/build_side_by_side.py --folder work/side \
        --rectools <python> --recbole <python> --replay <python>

Two logs: MovieLens-1M, and a synthetic one of the shape of MovieLens-20M (20,000,263 events of
138,493 users with at least 20 each, on 26,744 items). Each program reads the log from disk, holds
out each user's last event to test and the one before to validate, numbers users and items, and
ends with the object that its own SASRec takes its batches from:

    recsys    `recsys data` and `recsys features`: two directories on disk, hashed and synced, with
              the proof that nothing leaks; read as mapped arrays. In memory, and in parts.
    RecTools  `Dataset.construct`, SASRec's data preparator, its two data loaders (nothing on disk)
    RecBole   `create_dataset`, `data_preparation` with the augmentation that its SASRec is made for
    RePlay    `LastNSplitter` twice, `SequenceTokenizer` on Polars frames (nothing on disk)

All read Parquet but RecBole, which reads its own text form, written beforehand. Every run is a
process of its own whose imports are not timed; programs take turns. A process may use
`--memory` GiB, then it fails and the table says so. "Own" is memory that is no mapped file.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

BIG = (20_000_263, 138_493, 26_744)
"""Events, users and items of MovieLens-20M."""
MAX_LEN = 200
PEERS = ("rectools", "recbole", "replay")
PARTS = 14
"""Of the big log, for the build in parts."""
Job = Callable[[], tuple[int, int]]
"""What is timed; returns how many users and items there are."""


def synthetic(path: Path) -> None:
    """A log of the size of MovieLens-20M, in order of time."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    events, users, items = BIG
    lengths = rng.lognormal(0, 1.1, users)
    lengths = 20 + np.floor(lengths / lengths.sum() * (events - 20 * users)).astype(np.int64)
    lengths[: events - lengths.sum()] += 1
    user = np.repeat(np.arange(users), lengths)
    begin = rng.integers(0, 20 * 365 * 86_400, users)
    time_s = 789_000_000 + begin[user] + rng.integers(0, 60 * 86_400, events)
    item = np.floor(items * rng.random(events) ** 3).astype(np.int64)
    item[:items] = np.arange(items)
    order = np.argsort(time_s, kind="stable")
    pl.DataFrame(
        {"user_id": user[order] + 1, "item_id": item[order] + 1, "timestamp": time_s[order]}
    ).write_parquet(path)


def prepare(folder: Path) -> None:
    """The two logs as Parquet and in RecBole's form."""
    import polars as pl

    for name in ("ml-1m", "big"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        path = folder / name / "log.parquet"
        if path.exists():
            continue
        if name == "ml-1m":
            source = Path(os.environ["RECSYS_DATA"]) / "movielens_1m/interactions.parquet"
            log = pl.read_parquet(source).select(pl.all().cast(pl.Int64))
            log.sort("timestamp", maintain_order=True).write_parquet(path)
        else:
            synthetic(path)
        log = pl.read_parquet(path).rename(
            {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
        )
        log.write_csv(folder / name / f"{name}.inter", separator="\t")
    os.sync()


def recsys(folder: Path, parts: int) -> Job:
    from data.build import build_events
    from data.config import LogFiles
    from features.build import build_dataset
    from features.config import FeatureConfig, LeaveOneOut
    from features.store import Dataset

    out = folder / "recsys"
    shutil.rmtree(out, ignore_errors=True)

    def run() -> tuple[int, int]:
        log = LogFiles(paths=(str(folder / "log.parquet"),), parts=parts)
        build_events(log, out / "events")
        build_dataset(out / "events", FeatureConfig(split=LeaveOneOut()), out / "dataset")
        schema = Dataset.open(out / "dataset").schema
        return schema.num_users, schema.num_items

    return run


def rectools(folder: Path) -> Job:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models.nn.transformers.sasrec import SASRecDataPreparator

    def is_validation(interactions: pd.DataFrame) -> pd.Series:
        rank = (
            interactions.sort_values(Columns.Datetime, ascending=False, kind="stable")
            .groupby(Columns.User, sort=False)
            .cumcount()
        )
        return rank.reindex(interactions.index) == 0

    def run() -> tuple[int, int]:
        log = pd.read_parquet(folder / "log.parquet")
        log[Columns.Datetime] = pd.to_datetime(log.pop("timestamp"), unit="s")
        log[Columns.Weight] = 1.0
        last = log.groupby(Columns.User, sort=False).cumcount(ascending=False) == 0
        dataset = Dataset.construct(log[~last])
        preparator = SASRecDataPreparator(
            session_max_len=MAX_LEN,
            batch_size=128,
            dataloader_num_workers=0,
            get_val_mask_func=is_validation,
        )
        preparator.process_dataset_train(dataset)
        loader = preparator.get_dataloader_train()
        assert preparator.get_dataloader_val() is not None
        return len(loader.dataset), len(preparator.get_known_item_ids())

    return run


def recbole(folder: Path) -> Job:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    def run() -> tuple[int, int]:
        settings = {
            "data_path": str(folder.parent),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
            "train_neg_sample_args": None,
            "MAX_ITEM_LIST_LENGTH": MAX_LEN,
            "use_gpu": False,
        }
        config = Config(model="SASRec", dataset=folder.name, config_dict=settings)
        dataset = create_dataset(config)
        data_preparation(config, dataset)
        return dataset.user_num - 1, dataset.item_num - 1

    return run


def replay(folder: Path) -> Job:
    import polars as pl
    from replay.data import (
        Dataset,
        FeatureHint,
        FeatureInfo,
        FeatureSchema,
        FeatureSource,
        FeatureType,
    )
    from replay.data.nn import SequenceTokenizer, TensorFeatureSource, TensorSchema
    from replay.data.nn.schema import TensorFeatureInfo
    from replay.splitters import LastNSplitter

    features = FeatureSchema(
        [
            FeatureInfo("user_id", FeatureType.CATEGORICAL, FeatureHint.QUERY_ID),
            FeatureInfo("item_id", FeatureType.CATEGORICAL, FeatureHint.ITEM_ID),
            FeatureInfo("timestamp", FeatureType.NUMERICAL, FeatureHint.TIMESTAMP),
        ]
    )
    tensors = TensorSchema(
        TensorFeatureInfo(
            name="item_id",
            is_seq=True,
            feature_type=FeatureType.CATEGORICAL,
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
            feature_hint=FeatureHint.ITEM_ID,
        )
    )
    splitter = LastNSplitter(
        N=1, divide_column="user_id", query_column="user_id", strategy="interactions"
    )

    def run() -> tuple[int, int]:
        log = pl.read_parquet(folder / "log.parquet")
        rest, test = splitter.split(log)
        train, validation = splitter.split(rest)
        whole = Dataset(feature_schema=features, interactions=log)
        tokenizer = SequenceTokenizer(tensors).fit(whole)
        made = [
            tokenizer.transform(Dataset(feature_schema=features, interactions=part))
            for part in (train, validation, test)
        ]
        return len(made[0]), tokenizer.item_id_encoder.mapping["item_id"].__len__()

    return run


def job(program: str, folder: Path) -> Job:
    if program.startswith("recsys"):
        return recsys(folder, PARTS if program == "recsys, in parts" else 0)
    return {"rectools": rectools, "recbole": recbole, "replay": replay}[program](folder)


def held(name: str) -> float:
    """A figure of this process in MiB. (Not getrusage: it counts the parent before the exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def once(program: str, folder: Path, memory: float) -> None:
    """Run one program; prints seconds, processor seconds, peak and own MiB, users and items."""
    warnings.simplefilter("ignore")
    limit = round(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    run = job(program, folder)
    own, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            own[0] = max(own[0], held("RssAnon"))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    started, cpu = time.perf_counter(), time.process_time()
    users, items = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    over.set()
    used = {"seconds": seconds, "cpu": cpu, "peak": held("VmHWM"), "own": own[0]}
    print("\n" + json.dumps(used | {"users": users, "items": items}))


def measure(arguments: argparse.Namespace, program: str, log: str) -> dict[str, float | str]:
    python = getattr(arguments, program, None) or sys.executable
    command = [python, __file__, "--once", program, "--folder", str(arguments.folder / log)]
    root = Path(__file__).parents[1]
    environment = os.environ | ({"PYTHONPATH": str(root)} if python == sys.executable else {})
    try:
        done = subprocess.run(
            [*command, "--memory", str(arguments.memory)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=arguments.folder,
            timeout=arguments.timeout,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {arguments.timeout:g} s"}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
        return {"failed": reason[:120]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(results: dict[str, list[dict]], arguments: argparse.Namespace) -> str:
    """Medians over the runs as Markdown."""
    lines = [
        "| log | program | seconds | processor s | beside recsys (seconds; processor) | peak MiB | "
        "own MiB | runs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours: dict[str, dict[str, float]] = {}
    for key, runs in results.items():
        log, program = key.split("|")
        good = [run for run in runs if "failed" not in run]
        if not good:
            failed = runs[-1]["failed"]
            lines.append(f"| {log} | {program} | failed: {failed} | | | | | {len(runs)} |")
            continue
        middle = {name: statistics.median(run[name] for run in good) for name in good[0]}
        ours.setdefault(log, middle)
        beside = f"{middle['seconds'] / ours[log]['seconds']:.2f}x; "
        beside += f"{middle['cpu'] / ours[log]['cpu']:.2f}x"
        lines.append(
            f"| {log} | {program} | {middle['seconds']:.2f} | {middle['cpu']:.2f} | {beside} | "
            f"{middle['peak']:,.0f} | {middle['own']:,.0f} | {len(good)} |"
        )
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    machine = f"{os.cpu_count()} vCPU {model}, Python {platform.python_version()}"
    text = (__doc__ or "").split("\n\n", 2)
    return "\n".join(
        [
            "# Model-ready sequences: side by side",
            "",
            text[2].strip(),
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {machine}. Medians. RecTools 0.19.0, RecBole 1.2.1, "
            f"RePlay 0.20.3. {arguments.note}",
            "",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--logs", nargs="+", default=["ml-1m", "big"])
    parser.add_argument("--programs", nargs="+", default=["recsys", "recsys, in parts", *PEERS])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", type=float, default=12.0, help="GiB a process may use.")
    parser.add_argument("--timeout", type=float, default=600.0, help="Seconds a run may take.")
    parser.add_argument("--note", default="")
    parser.add_argument("--once")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", help="Its Python.")
    arguments = parser.parse_args()
    if arguments.once:
        once(arguments.once, arguments.folder, arguments.memory)
        return
    arguments.folder = arguments.folder.resolve()
    prepare(arguments.folder)
    kept = arguments.folder / "results.json"
    results: dict[str, list[dict]] = json.loads(kept.read_text()) if kept.exists() else {}
    for _ in range(arguments.runs):
        for log in arguments.logs:
            for program in arguments.programs:
                found = measure(arguments, program, log)
                results.setdefault(f"{log}|{program}", []).append(found)
                print(log, program, found, file=sys.stderr, flush=True)
                kept.write_text(json.dumps(results, indent=1))
    Path(__file__).with_suffix(".md").write_text(report(results, arguments))


if __name__ == "__main__":
    main()
