"""What one recommendation of Recformer-mini costs, from raw item ids to raw item ids with titles.

    python benchmarks/recformer_latency.py DATASET [--requests 60] [--events 20] [--tokens 512]

DATASET has item sentences (docs/recformer.md). A bundle is exported with untrained weights, since
time does not depend on them, and asked for ten items after histories of random items, in one
process and on one thread. `recommend` alternates with its bare kernels, which get the history of
the round before, encoded already: onnxruntime, and one product with all item vectors in numpy.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_model

from features.encode import Histories, encode_histories
from features.stage import write_stage
from features.store import Dataset
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.models.recformer import Recformer
from recsys.training.kinds import dataset_facts, model_config
from serving.model_source import ModelSource
from serving.recommender import Recommender

WARM_UP, K = 3, 10


def export_untrained(data: Dataset, tokens: int, events: int, folder: Path) -> Path:
    """A bundle of the recipe's sizes with random weights."""
    torch.manual_seed(0)
    sizes = {"max_tokens": tokens, "max_len": events}
    config = model_config("recformer", sizes, dataset_facts(data))
    model = Recformer(config).eval()
    for parameter in model.encoder.parameters():  # so that items differ as those of a trained model
        parameter.data *= 1 if parameter.dim() == 1 else 4
    model.freeze_items()
    parent = data.manifest.sha256
    with write_stage(folder / "run", kind="run", config={}, parent=parent) as directory:
        save_model(model, str(directory / "model.safetensors"))
        content = {"model": {"name": "recformer", "config": asdict(config)}}
        (directory / "config.json").write_text(json.dumps(content))
    settings = ExportConfig(
        sources=("model", "popularity"), golden_requests=1, item_precision="float32"
    )
    export(folder / "run", data.path, settings, folder / "bundle")
    return folder / "bundle"


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall clock, and processor time of this thread."""
    wall, cpu = time.perf_counter(), time.thread_time()
    call()
    return 1_000 * (time.perf_counter() - wall), 1_000 * (time.thread_time() - cpu)


def measure(bundle: Path, data: Dataset, requests: int, events: int) -> dict[str, np.ndarray]:
    """(requests, 2) by what was timed: wall clock, thread time."""
    recommender = Recommender.load(bundle)
    source = recommender.pipeline.sources[0]
    assert isinstance(source, ModelSource)
    raw_ids = data.vocabulary("item").to_pylist()
    vectors_VD = source.vectors_VD.astype(np.float32)
    rng = np.random.default_rng(0)
    names = ("recommend", "tokens", "onnxruntime", "product")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    before = rng.integers(1, data.schema.num_items + 1, events)
    for _ in range(requests + WARM_UP):
        history = rng.integers(1, data.schema.num_items + 1, events)
        raw = [raw_ids[item - 1] for item in history]
        times["recommend"].append(milliseconds(lambda raw=raw: recommender.recommend(raw, k=K)))
        inputs: dict[str, np.ndarray] = {}

        def encode(inputs: dict[str, np.ndarray] = inputs, old: np.ndarray = before) -> None:
            one = Histories.of([old])
            inputs |= encode_histories(one, source.inputs, source.max_len, data.item_table)

        times["tokens"].append(milliseconds(encode))
        query: list[np.ndarray] = []

        def run(inputs: dict[str, np.ndarray] = inputs, query: list[np.ndarray] = query) -> None:
            query.append(np.asarray(source.graph.run(None, inputs)[0]))

        def product(query: list[np.ndarray] = query) -> None:
            np.argpartition(-(vectors_VD @ query[0][0]), K)

        times["onnxruntime"].append(milliseconds(run))
        times["product"].append(milliseconds(product))
        before = history
    return {name: np.array(found[WARM_UP:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.open(options.dataset)
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_untrained(data, options.tokens, options.events, Path(folder))
        times = measure(bundle, data, options.requests, options.events)
    print(f"{options.events} events, at most {options.tokens} tokens, {options.requests} requests")
    for name, found in times.items():
        wall, cpu = (np.quantile(found[:, column], [0.5, 0.99]) for column in (0, 1))
        print(
            f"{name:12} thread time: median {cpu[0]:8.3f} ms  p99 {cpu[1]:8.3f} ms   "
            f"wall clock: median {wall[0]:8.3f} ms  p99 {wall[1]:8.3f} ms"
        )
    bare = times["onnxruntime"] + times["product"]
    ratio = np.median(times["recommend"], axis=0) / np.median(bare, axis=0) - 1
    print(f"recommend over the bare kernels: {ratio[1]:+.1%} thread time, {ratio[0]:+.1%} wall")


if __name__ == "__main__":
    main()
