"""A synthetic bundle of any size, for latency and recall: SASRec, item vectors, popularity, trees.

    python benchmarks/large_bundle.py OUT --items 1000000 [--vectors clustered|gaussian]
        [--candidates 500]

Dim 64, 500 candidates, histories up to 50, a LightGBM ranker over 28 features (300 trees of 15
leaves, trained on noise: the work is that of a real one, the order is not). What the sizes mean for
quality is measured elsewhere: with random vectors only time and recall of the search say something.
"""

import argparse
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from features.asof import feature_names, write_timelines
from features.encode import Histories
from features.layout import CATALOGUE, ITEMS, DatasetSchema, ItemColumn, vocabulary_file
from features.store import write_table
from recsys.export.index import tune_refine
from recsys.export.onnx import export_encoder
from recsys.export.trees import to_onnx
from recsys.models.sasrec import SASRec, SASRecConfig
from serving.bundle import Bundle, seal, write_bundle
from serving.manifest import Manifest, ModelSpec, PopularitySpec, TreeRankerSpec
from serving.model_source import ModelSource
from serving.parts import Parts
from serving.recommender import Recommender

DIM, MAX_LEN, CANDIDATES, TREES, LEAVES = 64, 50, 500, 300, 15
CUTOFF, DAY = 1_700_000_000_000_000, 86_400_000_000
COLUMNS = (
    ItemColumn(name="genre", kind="categories", size=30, width=3),
    ItemColumn(name="brand", kind="category", size=1_000),
    ItemColumn(name="shop", kind="category", size=100),
    ItemColumn(name="price", kind="numeric"),
    ItemColumn(name="released", kind="timestamp"),
)
SOURCES = ("model", "popularity")


def vectors_of(kind: str, num_items: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N + 1, D) unit vectors, row 0 zero: around one center in a thousand items, or isotropic."""
    vectors = rng.standard_normal((num_items + 1, DIM)).astype(np.float32)
    if kind == "clustered":
        centers = rng.standard_normal((max(num_items // 1_000, 2), DIM)).astype(np.float32)
        vectors = centers[rng.integers(0, len(centers), num_items + 1)] + 0.5 * vectors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    return vectors


def item_table(num_items: int, rng: np.random.Generator) -> dict[str, NDArray]:
    size = num_items + 1
    table: dict[str, NDArray] = {
        "id": np.arange(size),
        "genre": rng.integers(0, 30, (size, 3)).astype(np.int32),
        "brand": rng.integers(2, 1_000, size).astype(np.int32),
        "shop": rng.integers(2, 100, size).astype(np.int32),
        "price": rng.random(size).astype(np.float32),
        "released": CUTOFF - rng.integers(0, 1_000, size) * DAY,
    }
    for column in COLUMNS:
        table[column.name][0] = 0
    return table


def write(
    out: Path, num_items: int, kind: str, *, ranker: bool = True, candidates: int = CANDIDATES
) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    vectors = vectors_of(kind, num_items, rng)
    model = SASRec(SASRecConfig(num_items=num_items, max_len=MAX_LEN, dim=DIM)).eval()
    with torch.no_grad():
        model.item.weight.copy_(torch.from_numpy(vectors))
    table = item_table(num_items, rng)
    schema = DatasetSchema(
        num_users=1,
        num_items=num_items,
        num_warm_items=num_items,
        cold_targets=0,
        num_events=1,
        event_types=("view",),
        target_events=("view",),
        item_columns=COLUMNS,
        title_column="title",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=CUTOFF,
        split={},
    )
    specs = (
        ModelSpec(
            name="model",
            model="sasrec",
            encoder="model.encoder.onnx",
            inputs=("items",),
            vectors="model.vectors.npy",
            max_len=MAX_LEN,
            dim=DIM,
            candidates=candidates,
        ),
        PopularitySpec(name="popularity", scores="popularity.scores.npy", candidates=1),
    )
    raw_ids = np.arange(1, num_items + 1) * 3
    with write_bundle(out) as directory:
        export_encoder(model, table, num_items, directory / specs[0].encoder)
        np.save(directory / specs[0].vectors, vectors.astype(np.float16))
        popularity = rng.integers(0, 1_000, num_items + 1).astype(np.float32)
        np.save(directory / specs[1].scores, popularity)
        schema.write(directory)
        write_table(directory / vocabulary_file("item"), {"id": raw_ids})
        for column in COLUMNS[:3]:
            names = pa.array([f"{column.name} {n}" for n in range(column.size - 2)])
            write_table(directory / vocabulary_file(column.name), {"id": names})
        write_table(directory / ITEMS, table)
        titles = pl.Series("title", [f"thing {raw}" for raw in raw_ids])
        pl.DataFrame({"item_id": raw_ids, "title": titles}).write_parquet(directory / CATALOGUE)
        events = rng.integers(1, num_items + 1, 5 * num_items)
        moments = CUTOFF - rng.integers(0, 100, 5 * num_items) * DAY
        write_timelines(directory, events, moments, num_items)
        manifest = Manifest(dataset="", run="", num_items=num_items, sources=specs, config={})
        if ranker:
            names = feature_names(COLUMNS, SOURCES)
            (directory / "ranker.onnx").write_bytes(trees(len(names), rng))
            spec = TreeRankerSpec(graph="ranker.onnx", features=names)
            manifest = manifest.model_copy(update={"ranker": spec})
        recommender = Recommender(Parts.load(Bundle(directory, manifest, "")))
        source = recommender.pipeline.sources[0]
        assert isinstance(source, ModelSource)
        histories = Histories.of(rng.integers(1, num_items + 1, (100, MAX_LEN)).tolist())
        refine = tune_refine(source, vectors, histories, candidates)
        print(f"{num_items:,} {kind} items: refine {refine}")
        tuned = specs[0].model_copy(update={"refine": refine})
        seal(directory, manifest.model_copy(update={"sources": (tuned, specs[1])}))


def trees(num_features: int, rng: np.random.Generator) -> bytes:
    rows = rng.random((20_000, num_features)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    labels = rng.integers(0, 2, len(rows))
    data = lgb.Dataset(rows, labels, group=np.full(len(rows) // 100, 100))
    options = {"objective": "lambdarank", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1}
    return to_onnx(lgb.train(options, data, TREES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--vectors", choices=["clustered", "gaussian"], default="clustered")
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    options = parser.parse_args()
    write(options.out, options.items, options.vectors, candidates=options.candidates)


if __name__ == "__main__":
    main()
