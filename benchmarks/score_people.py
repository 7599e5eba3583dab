"""Persons a minute through `recsys score`, 512 tokens each, beside bare onnxruntime.

    /work/bin/bench .venv/bin/python benchmarks/score_people.py WORK [--persons 3000]

WORK is a scratch directory. Random weights serve as well as trained ones: the figures do not depend
on them. The bare run feeds the same graph with arrays that are encoded already, two threads with a
session each; `recsys score` reads Parquet, encodes, predicts, calibrates and writes parts.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

TOKENS, RUNS = 512, 3
SIZES = {"max_len": TOKENS, "dim": 64, "feed_forward": 256, "num_blocks": 2, "features": 64}


def tables(num: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events of 170 rows of two tokens and a SEP a person: 512 tokens with the prefix."""
    draw, each = np.random.default_rng(0), 170
    person = np.repeat(np.arange(num), each)
    day = np.sort(draw.integers(0, 1000, (num, each)), axis=1).ravel()
    start = datetime(2020, 1, 1)
    events = pl.DataFrame(
        {
            "user_id": person,
            "timestamp": pl.Series(day).cast(pl.Int64) * 86_400_000_000,
            "item": draw.integers(0, 500, len(person)).astype(str),
            "action": draw.choice(["view", "cart", "buy"], len(person)),
        }
    ).with_columns(
        pl.lit(start).cast(pl.Datetime("us")) + pl.duration(microseconds=pl.col("timestamp"))
    )
    moment = pl.lit(start + timedelta(days=1001)).cast(pl.Datetime("us"))
    outcomes = pl.DataFrame({"user_id": np.arange(num)}).with_columns(
        at=moment, label=(pl.col("user_id") % 2).cast(pl.Float32)
    )
    return events, outcomes


def make_bundle(work: Path, num: int) -> None:
    """Events, lives, an untrained run, a bundle."""
    import torch

    from features.life_build import build_lives
    from features.life_config import LifeConfig, LifeField, OutcomeConfig
    from features.life_store import Lives
    from features.stage import write_stage
    from recsys.export.outcomes import export_graph, unchanged
    from recsys.models.life_events import LifeEvents, LifeEventsConfig
    from recsys.training.outcomes import lives_facts
    from serving.bundle import seal, write_bundle
    from serving.manifest import Manifest, OutcomeSpec

    events, outcomes = tables(num)
    with write_stage(work / "events", kind="events", config={}, parent="") as directory:
        events.write_parquet(directory / "events.parquet")
        outcomes.write_parquet(directory / "outcomes.parquet")
    config = LifeConfig(
        fields=(LifeField(name="item"), LifeField(name="action")),
        outcomes=(OutcomeConfig(name="label"),),
    )
    build_lives(work / "events", config, work / "lives")
    data = Lives.open(work / "lives")
    facts = lives_facts(data)
    torch.manual_seed(0)
    model = LifeEvents(LifeEventsConfig(**facts, **SIZES)).eval()
    with write_bundle(work / "bundle") as directory:
        shutil.copyfile(work / "lives" / "life.json", directory / "life.json")
        export_graph(model, data.schema.num_tokens, directory / "outcomes.onnx")
        spec = OutcomeSpec(
            model="life_events", graph="outcomes.onnx", schema_file="life.json",
            inputs=model.life_inputs, max_len=TOKENS, dim=model.dim,
            calibration=tuple(map(unchanged, data.schema.outcomes)),
        )  # fmt: skip
        seal(directory, Manifest(dataset="", run="", num_items=0, sources=(), outcomes=spec,
                                 config={}))  # fmt: skip


def bare(work: Path) -> tuple[float, int]:
    """Seconds of the graph alone over encoded arrays on two threads, and tokens of a document."""
    from features.life_encode import encode_documents
    from features.life_store import Lives
    from serving.outcomes import BATCH_TOKENS
    from serving.sources import open_graph

    data = Lives.open(work / "lives")
    size = BATCH_TOKENS // TOKENS
    rows = np.arange(len(data.cases["user"]))
    batches = [
        encode_documents(data.documents(rows[i : i + size]), data.schema, TOKENS)
        for i in range(0, len(rows), size)
    ]
    graphs = [open_graph(work / "bundle" / "outcomes.onnx") for _ in range(2)]

    def run(number: int) -> None:
        for batch in batches[number::2]:
            graphs[number].run(None, batch)

    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    return time.perf_counter() - started, batches[0]["tokens"].shape[1]


def scored(work: Path, number: int) -> float:
    """Seconds of one `recsys score`, start of the processes included."""
    out = work / f"scores{number}"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", "from recsys.cli import main; main()", "score"]
    command += [str(work / "bundle"), str(work / "events" / "events.parquet"), "--out", str(out)]
    command += ["--part-size", "500", "--processes", "2"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--persons", type=int, default=3_000)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen.work.mkdir(parents=True, exist_ok=True)
    if not (chosen.work / "bundle").exists():
        make_bundle(chosen.work, chosen.persons)
    results: dict[str, list[float]] = {"bare": [], "score": []}
    for number in range(RUNS):
        seconds, tokens = bare(chosen.work)
        results["bare"].append(60 * chosen.persons / seconds)
        results["score"].append(60 * chosen.persons / scored(chosen.work, number))
    medians = {name: round(statistics.median(values)) for name, values in results.items()}
    print(json.dumps({"persons": chosen.persons, "tokens": tokens, "persons_a_minute": medians,
                      "runs": results}))  # fmt: skip


if __name__ == "__main__":
    main()
