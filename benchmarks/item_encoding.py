"""Items a second through Recformer's encoder, beside the way the published code encodes them.

    python benchmarks/item_encoding.py DATASET [--items 512] [--rounds 3]

DATASET has item sentences (docs/recformer.md). In one process, on one thread, over the same random
items and the same weights, each way timed in turn:

- published: batches of 16 in the order of the catalogue, float32, every batch padded to a multiple
  of 64 tokens (twice the window), every token through every block and through its own projections
  for the global [CLS];
- unsorted: the same without the padding to 64;
- bucketed: `encode_sentences`, float32: like lengths together, of the last block [CLS] alone;
- bucketed, bfloat16: the same under autocast, as `precision = "bf16-mixed"` runs it.

Processor time of the thread, so that other work on the machine counts little. Quality: of the ten
items nearest to each item by the published way, the share that is found again.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.encode import SENTENCE
from features.store import Dataset
from recsys.models.bucketed import encode_sentences
from recsys.models.sentence_encoder import Block, SentenceEncoder
from recsys.training.kinds import dataset_facts, model_config

BATCH, MULTIPLE = 16, 64
SHAPES = {
    "mini (6 blocks, dim 256)": {},
    "MiniLM (6 blocks, dim 384)": {"dim": 384, "num_heads": 12, "hidden": 1536},
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.open(options.dataset)
    chosen = np.random.default_rng(0).permutation(data.schema.num_items)[: options.items] + 1
    sentences = torch.from_numpy(data.item_table[SENTENCE][chosen])
    tokens = (sentences != 0).sum(1)
    print(f"{len(chosen)} items, tokens: mean {tokens.float().mean():.1f}, most {tokens.max()}")
    for shape, sizes in SHAPES.items():
        torch.manual_seed(0)
        config = model_config("recformer", sizes, dataset_facts(data))
        column = next(column for column in config.columns if column.kind == SENTENCE)
        encoder = SentenceEncoder(config, column.size).eval()
        for parameter in encoder.parameters():  # so that items differ as those of a trained model
            parameter.data *= 1 if parameter.dim() == 1 else 4
        ways: dict[str, Callable[[SentenceEncoder, Tensor], Tensor]] = {
            "published": lambda e, s: published(e, s, MULTIPLE),
            "unsorted": lambda e, s: published(e, s, 1),
            "bucketed": encode_sentences,
            "bucketed, bfloat16": bfloat16,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        vectors: dict[str, Tensor] = {}
        with torch.inference_mode():
            for _ in range(options.rounds):
                for name, way in ways.items():
                    started = time.thread_time()
                    vectors[name] = way(encoder, sentences)
                    seconds[name].append(time.thread_time() - started)
        exact = neighbours(vectors["published"])
        slow = float(np.median(seconds["published"]))
        print(shape)
        for name in ways:
            median = float(np.median(seconds[name]))
            found = neighbours(vectors[name])
            same = np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)])
            difference = float((vectors[name].float() - vectors["published"]).abs().max())
            print(
                f"  {name:20} {len(chosen) / median:8.1f} items/s  {slow / median:5.2f} x  "
                f"largest difference {difference:.1e}  neighbours kept {same:.4f}"
            )


if __name__ == "__main__":
    main()
