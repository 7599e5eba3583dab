"""What a history costs Recformer-mini: its tokens, its graph in onnxruntime, the search.

    python benchmarks/recformer_latency.py DATASET [--requests 60] [--events 20]

DATASET has item sentences (docs/recformer.md). The weights are untrained: time does not depend on
them. One thread, processor time of the thread; whole requests through a bundle are timed by
`recommend_latency.py`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from features.encode import Histories, encode_histories
from features.store import Dataset
from recsys.export.onnx import export_encoder
from recsys.models.recformer import Recformer
from recsys.training.kinds import dataset_facts, model_config

WARM_UP = 2
FOUND = 30


def milliseconds(call: Callable[[], object]) -> float:
    started = time.thread_time()
    call()
    return 1_000 * (time.thread_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--events", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.open(options.dataset)
    model = Recformer(model_config("recformer", {"max_tokens": 1024}, dataset_facts(data))).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mini.onnx"
        export_encoder(model, data.item_table, data.schema.num_items, path)
        options_of_one_thread = ort.SessionOptions()
        options_of_one_thread.intra_op_num_threads = 1
        graph = ort.InferenceSession(path, options_of_one_thread)
    rng = np.random.default_rng(0)
    vectors_VD = rng.standard_normal((data.schema.num_items + 1, model.dim)).astype(np.float32)
    times: dict[str, list[float]] = {"tokens": [], "onnxruntime": [], "search": []}
    length = 0
    for _ in range(options.requests + WARM_UP):
        history = Histories.of([rng.integers(1, data.schema.num_items + 1, options.events)])

        def encode(history: Histories = history) -> dict[str, np.ndarray]:
            return encode_histories(history, model.history_inputs, model.max_len, data.item_table)

        inputs = encode()
        length = inputs["tokens"].shape[1]
        query_D = np.asarray(graph.run(None, inputs)[0])[0]
        times["tokens"].append(milliseconds(encode))
        times["onnxruntime"].append(milliseconds(lambda inputs=inputs: graph.run(None, inputs)))
        times["search"].append(
            milliseconds(
                lambda query=query_D: np.argpartition(-(vectors_VD @ query), FOUND)[:FOUND]
            )
        )
    print(f"{options.events} events, {length} tokens in the last one, {options.requests} requests")
    for name, found in times.items():
        kept = np.array(found[WARM_UP:])
        print(f"{name:12} median {np.median(kept):8.3f} ms   p99 {np.percentile(kept, 99):8.3f} ms")


if __name__ == "__main__":
    main()
