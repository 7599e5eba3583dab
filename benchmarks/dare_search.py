"""Time of DARE's search and ranking stages on one core, by attention width and history length.

    python benchmarks/dare_search.py

The stages are exported and run by onnxruntime as serving runs them, some candidates at a time, on
random tensors: time does not depend on the weights. 100 % is 128 for each of two fields (item,
category). Beside each time stands the operation count, multiply-adds of the scores, relative to the
full width; the bare matrix product of the same size (numpy) is the reference. Widths take turns, so
that a busy moment meets all of them; processor time of the one thread: medians, and in brackets the
best of the rounds.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession

from recsys.export.neural import StagePart
from recsys.export.onnx import write_graph
from recsys.models.dare import DARE, DAREConfig
from recsys.models.interface import Column
from serving.graphs import open_graph
from serving.neural import CELLS

CANDIDATES, FULL, ROUNDS = 500, 128, 15
WIDTHS, LENGTHS = (FULL, FULL // 2, FULL // 4, 16), (1_008, 10_000)
COLUMN = Column(name="category", kind="category", size=1_000)


def model_of(attention_dim: int, dim: int = 16) -> DARE:
    """A DARE for histories of 10,000 events."""
    torch.manual_seed(0)
    config = DAREConfig(
        num_items=1_000,
        columns=(COLUMN,),
        max_len=10_000,
        dim=dim,
        attention_dim=attention_dim,
        init="torch",
    )
    return DARE(config).eval()


def tensors_of(model: DARE, length: int) -> dict[str, torch.Tensor]:
    """Random history and item tensors of one request."""
    width, value = model.attention.width, model.representation.width + model.representation.dim
    return {
        "query": torch.randn(1, CANDIDATES, width),
        "biased_key": torch.randn(1, width + 1, length),
        "value": torch.randn(1, length, value),
        "target": torch.randn(1, CANDIDATES, model.representation.width),
    }


def stages_of(model: DARE, folder: Path) -> dict[str, InferenceSession]:
    """Opened sessions by stage."""
    dynamic = {
        "query": {1: "c"}, "biased_key": {2: "l"}, "value": {1: "l"}, "target": {1: "c"},
        "kept_scores": {1: "c"}, "kept": {1: "c"},
    }  # fmt: skip
    parts = {
        "search": (["query", "biased_key"], ["kept_scores", "kept"]),
        "rank": (["kept_scores", "kept", "value", "target"], ["scores"]),
    }
    tensors = tensors_of(model, 640)
    found = {}
    for stage, (inputs, outputs) in parts.items():
        path = folder / f"{stage}.onnx"
        axes = {"values": tuple(dynamic[name] for name in inputs)}
        with torch.no_grad():
            part = StagePart(model, stage, inputs, outputs)
            write_graph(part, [tensors[n] for n in inputs], (inputs, outputs), axes, path)
            tensors |= getattr(model, stage)(tensors)
        found[stage] = open_graph(path)
    return found


def calls_of(model: DARE, length: int) -> dict[str, Callable[[], object]]:
    """What is timed: the search, the rank stage, and the bare product, of one request."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = stages_of(model, Path(folder))
    feed = {name: x.numpy() for name, x in tensors_of(model, length).items()}
    size = max(CELLS // length, 1)
    chunks = [slice(first, first + size) for first in range(0, CANDIDATES, size)]
    queries = [feed["query"][:, chunk] for chunk in chunks]
    targets = [feed["target"][:, chunk] for chunk in chunks]
    search = lambda q: sessions["search"].run(None, {"query": q, "biased_key": feed["biased_key"]})  # noqa: E731
    kept = [search(query) for query in queries]
    inputs = [
        {"kept_scores": scores, "kept": places, "value": feed["value"], "target": target}
        for (scores, places), target in zip(kept, targets, strict=True)
    ]
    key, out = feed["biased_key"][0, :-1], np.empty((CANDIDATES, length), np.float32)
    return {
        "search": lambda: [search(query) for query in queries],
        "rank": lambda: [sessions["rank"].run(None, each) for each in inputs],
        "product": lambda: np.matmul(feed["query"][0], key, out=out),
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    models = {width: model_of(width) for width in WIDTHS}
    print("| width | events | operations | search, ms | full width / this | product, ms | rank, ms "
          "| both, ms |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for length in LENGTHS:
        calls = {width: calls_of(model, length) for width, model in models.items()}
        times = {(w, part): [] for w in WIDTHS for part in calls[w]}
        for turn in range(ROUNDS + 1):
            for (width, part), found in times.items():
                started = time.thread_time()
                calls[width][part]()
                if turn:
                    found.append(1e3 * (time.thread_time() - started))
        for width in WIDTHS:
            search, rank, product = (
                np.array(times[width, p]) for p in ("search", "rank", "product")
            )
            ratio = np.median(times[FULL, "search"]) / np.median(search)
            print(f"| {2 * width} | {length:,} | {width / FULL:.1%} | {np.median(search):.1f} "
                  f"({search.min():.1f}) | {ratio:.2f} | {np.median(product):.1f} "
                  f"({product.min():.1f}) | {np.median(rank):.1f} ({rank.min():.1f}) | "
                  f"{np.median(search + rank):.1f} ({(search + rank).min():.1f}) |")  # fmt: skip


if __name__ == "__main__":
    main()
