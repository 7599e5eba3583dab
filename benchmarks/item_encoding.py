"""Items a second through Recformer's encoder, beside the way the published code encodes them.

    python benchmarks/item_encoding.py DATASET [--run RUN] [--items 192] [--rounds 3]

DATASET has item sentences (docs/recformer.md); RUN is trained on it, without it weights are random.
In one process, on one thread, over the same random items and the same weights, each way in turn:

- published: batches of 16 in the order of the catalogue, float32, every batch padded to a multiple
  of 64 tokens (twice the window), every token through every block and through its own projections
  for the global [CLS];
- unsorted: the same without the padding to 64;
- training: `encode_sentences`, float32: like lengths together, of the last block [CLS] alone;
- training, bfloat16: the same under autocast, as `precision = "bf16-mixed"` runs it;
- served: the graph of a bundle in onnxruntime, as `recsys export` and `add-items` run it;
- served, int8: the same with `export.item_precision = "int8"`.

Processor time of the thread, so that other work on the machine counts little. Quality: of the ten
items nearest to each item by the published way, the share that is found again (as near but for a
hundredth of the greatest similarity: `neighbours_kept`, and exactly the same ones). With RUN also
NDCG@10 of 1,000 validation users over the vectors of either graph.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from features.encode import SENTENCE
from features.store import Dataset
from recsys.export.item_encoder import (
    export_item_encoder,
    neighbours_kept,
    quantize_item_encoder,
)
from recsys.models.bucketed import encode_sentences
from recsys.models.recformer import Recformer
from recsys.models.sentence_encoder import Block, SentenceEncoder
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.run import load_retriever
from recsys.training.validation import Validation
from serving.item_encoder import ItemEncoder

BATCH, MULTIPLE = 16, 64


def global_attention_of_every_token(self: Block, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
    heads = self.num_heads
    query = self.global_query(x_BTD[:, :1]).unflatten(-1, (heads, -1)).transpose(1, 2)
    key = self.global_key(x_BTD).unflatten(-1, (heads, -1)).transpose(1, 2)
    value = self.global_value(x_BTD).unflatten(-1, (heads, -1)).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real_BT[:, None, None])
    return mixed.transpose(1, 2).flatten(2)


def published(encoder: SentenceEncoder, sentences_NS: Tensor, multiple: int) -> Tensor:
    """Vectors (N, D) as the published code makes them."""
    parts = []
    whole = Block.attend_globally
    Block.attend_globally = global_attention_of_every_token
    try:
        for rows in sentences_NS.split(BATCH):
            longest = int((rows != 0).sum(1).max())
            tokens = F.pad(rows[:, :longest].long(), (1, 0))
            tokens = F.pad(tokens, (0, -tokens.size(1) % multiple))
            parts.append(encoder.states(tokens, (tokens != 0).long())[:, 0])
    finally:
        Block.attend_globally = whole
    return F.normalize(torch.cat(parts), dim=-1)


def bfloat16(encoder: SentenceEncoder, sentences_NS: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return encode_sentences(encoder, sentences_NS)


def neighbours(vectors_ND: Tensor, k: int = 10) -> np.ndarray:
    scores = vectors_ND.float() @ vectors_ND.float().T
    scores.fill_diagonal_(-torch.inf)
    return scores.topk(k).indices.numpy()


def served(model: Recformer, table: Mapping[str, np.ndarray], folder: Path) -> dict[str, Path]:
    """Both graphs of a bundle, by name."""
    paths = {"served": folder / "exact.onnx", "served, int8": folder / "int8.onnx"}
    export_item_encoder(model, table, paths["served"])
    quality = quantize_item_encoder(model, table, *paths.values())
    print(f"neighbours kept by int8 among {quality.items}: {quality.neighbours_kept:.4f}")
    return paths


def load(run: Path | None, data: Dataset) -> Recformer:
    if run is not None:
        model, _ = load_retriever(run)
        assert isinstance(model, Recformer)
        return model
    torch.manual_seed(0)
    model = Recformer(model_config("recformer", {}, dataset_facts(data))).eval()
    for parameter in model.encoder.parameters():  # so that items differ as those of a trained model
        parameter.data *= 1 if parameter.dim() == 1 else 4
    model.freeze_items()
    return model


def quality_of_lists(model: Recformer, data: Dataset, graphs: Mapping[str, Path]) -> None:
    """NDCG@10 on validation users, histories as they are, items by either graph."""
    validation, fabric = Validation.of(data, 1_000, 0, (0, 1)), Fabric("cpu", devices=1)
    for name, path in graphs.items():
        vectors = ItemEncoder.load(path, (SENTENCE,), model.dim).encode(data.item_table)
        vectors[0] = 0
        found = validation.scores(fabric, model, torch.from_numpy(vectors))
        print(f"  {name:20} NDCG@10 {found['ndcg@10']:.4f}  HR@10 {found['hit_rate@10']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--items", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.open(options.dataset)
    chosen = np.random.default_rng(0).permutation(data.schema.num_items)[: options.items] + 1
    rows = data.item_table[SENTENCE][chosen]
    sentences = torch.from_numpy(rows)
    tokens = (sentences != 0).sum(1)
    print(f"{len(chosen)} items, tokens: mean {tokens.float().mean():.1f}, most {tokens.max()}")
    model = load(options.run, data)
    encoder = model.item_encoder.eval()
    ways: dict[str, Callable[[], Tensor]] = {
        "published": lambda: published(encoder, sentences, MULTIPLE),
        "unsorted": lambda: published(encoder, sentences, 1),
        "training": lambda: encode_sentences(encoder, sentences),
        "training, bfloat16": lambda: bfloat16(encoder, sentences),
    }
    with tempfile.TemporaryDirectory() as folder:
        graphs = served(model, data.item_table, Path(folder))
        for name, path in graphs.items():
            graph = ItemEncoder.load(path, (SENTENCE,), model.dim)
            ways[name] = lambda graph=graph: torch.from_numpy(graph.encode({SENTENCE: rows}))
        measure(ways, options.rounds)
        if options.run is not None:
            quality_of_lists(model, data, graphs)


def measure(ways: Mapping[str, Callable[[], Tensor]], rounds: int) -> None:
    """Time each way in turn, and print what it makes."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.thread_time()
                vectors[name] = way()
                seconds[name].append(time.thread_time() - started)
    true = vectors["published"]
    exact, slow = neighbours(true), float(np.median(seconds["published"]))
    for name in ways:
        median, found = float(np.median(seconds[name])), vectors[name].float()
        pairs = zip(neighbours(found), exact, strict=True)
        same = np.mean([np.isin(a, b).mean() for a, b in pairs])
        near = neighbours_kept(true.numpy(), found.numpy())
        print(
            f"  {name:20} {len(true) / median:8.1f} items/s  {slow / median:5.2f} x  difference "
            f"{float((found - true).abs().max()):.1e}  as near {near:.4f}  same {same:.4f}"
        )


if __name__ == "__main__":
    main()
