"""Persons a minute through `recsys score`, 512 tokens each, beside bare onnxruntime.

    .venv/bin/python benchmarks/score_people.py WORK [--persons 3000]

WORK is a scratch directory. Random weights serve as well as trained ones: the figures do not depend
on them. The bare run feeds the same graph with arrays that are encoded already; `recsys score`
reads Parquet, encodes, predicts, calibrates and writes parts in two processes, their start
included. Both are told by the clock and by the processor: persons a minute that two free cores
would do are 120 x persons / processor seconds, which a busy machine changes little.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

TOKENS = 512
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
            "timestamp": np.datetime64(start, "us") + day.astype("timedelta64[D]"),
            "item": draw.integers(0, 500, len(person)).astype(str),
            "action": draw.choice(["view", "cart", "buy"], len(person)),
        }
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
    """Processor seconds of the graph alone over encoded arrays, and tokens of a document."""
    from features.life_encode import encode_documents
    from features.life_store import Lives
    from serving.graphs import open_graph
    from serving.outcomes import BATCH_TOKENS

    data = Lives.open(work / "lives")
    size = BATCH_TOKENS // TOKENS
    rows = np.arange(len(data.cases["user"]))
    batches = [
        encode_documents(data.documents(rows[i : i + size]), data.schema, TOKENS)
        for i in range(0, len(rows), size)
    ]
    graph = open_graph(work / "bundle" / "outcomes.onnx")
    started = time.process_time()
    for batch in batches:
        graph.run(None, batch)
    return time.process_time() - started, batches[0]["tokens"].shape[1]


def scored(work: Path, number: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor of one `recsys score`, start included."""
    out = work / f"scores{number}"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", "from recsys.cli import main; main()", "score"]
    command += [str(work / "bundle"), str(work / "events" / "events.parquet"), "--out", str(out)]
    command += ["--part-size", "500", "--processes", "2"]
    before, started = processor_seconds(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, processor_seconds() - before


def processor_seconds() -> float:
    """Of all processes that have been started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--persons", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen.work.mkdir(parents=True, exist_ok=True)
    if not (chosen.work / "bundle").exists():
        make_bundle(chosen.work, chosen.persons)
    names = ("bare, processor", "score, processor", "score, clock")
    results: dict[str, list[float]] = {name: [] for name in names}
    for number in range(chosen.runs):
        seconds, tokens = bare(chosen.work)
        clock, used = scored(chosen.work, number)
        for name, took in zip(names, (seconds / 2, used / 2, clock), strict=True):
            results[name].append(round(60 * chosen.persons / took))
    medians = {name: statistics.median(values) for name, values in results.items()}
    print(json.dumps({"persons": chosen.persons, "tokens": tokens,
                      "persons a minute on two cores": medians, "runs": results}))  # fmt: skip


if __name__ == "__main__":
    main()
