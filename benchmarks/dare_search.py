"""Time of DARE's search and ranking stages on one core, by attention width and history length.

    python benchmarks/dare_search.py

The stages are exported and run by onnxruntime as serving runs them, on random tensors: time does
not depend on the weights. 100 % is 128 for each of two fields (item, category). Beside each time
stands the operation count, multiply-adds of the scores, relative to the full width; the bare
matrix product of the same size in the same session, and torch's own top-K, are the references.
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

CANDIDATES, FULL, ROUNDS = 500, 128, 15
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


def median(call: Callable[[], object]) -> float:
    """Milliseconds."""
    call()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times))


def tensors_of(model: DARE, length: int) -> dict[str, torch.Tensor]:
    """Random history and item tensors of one request."""
    width, value = model.attention.width, model.representation.width + model.representation.dim
    return {
        "query": torch.randn(1, CANDIDATES, width),
        "key": torch.randn(1, length, width),
        "bias": torch.randn(1, length),
        "value": torch.randn(1, length, value),
        "target": torch.randn(1, CANDIDATES, model.representation.width),
    }


def stages_of(model: DARE, folder: Path) -> dict[str, InferenceSession]:
    """Opened sessions by stage."""
    dynamic = {
        "query": {1: "c"}, "key": {1: "l"}, "bias": {1: "l"}, "value": {1: "l"},
        "target": {1: "c"}, "kept_scores": {1: "c"}, "kept": {1: "c"},
    }  # fmt: skip
    parts = {
        "search": (["query", "key", "bias"], ["kept_scores", "kept"]),
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


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{'width':>6} {'events':>7} {'operations':>10} {'search ms':>10} {'matmul ms':>10} "
          f"{'rank ms':>8} {'both ms':>8}")  # fmt: skip
    for per_field in (FULL, FULL // 2, FULL // 4, 16):
        model = model_of(per_field)
        with tempfile.TemporaryDirectory() as folder:
            sessions = stages_of(model, Path(folder))
        for length in (1_008, 10_000):
            feed = {name: x.numpy() for name, x in tensors_of(model, length).items()}
            search = {name: feed[name] for name in ("query", "key", "bias")}
            kept, places = sessions["search"].run(["kept_scores", "kept"], search)
            rank = {"kept_scores": kept, "kept": places, "value": feed["value"]}
            rank["target"] = feed["target"]
            query, key = feed["query"][0], np.ascontiguousarray(feed["key"][0].T)
            out = np.empty((CANDIDATES, length), np.float32)
            first = median(lambda g=sessions["search"], s=search: g.run(None, s))
            bare = median(lambda q=query, k=key, o=out: np.matmul(q, k, out=o))
            second = median(lambda g=sessions["rank"], r=rank: g.run(None, r))
            print(f"{2 * per_field:6} {length:7,} {per_field / FULL:10.1%} {first:10.2f} "
                  f"{bare:10.2f} {second:8.2f} {first + second:8.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
