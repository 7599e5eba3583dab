"""M2TRec beside models that know items by id, on public data: trains, exports, evaluates, compares.

    RECSYS_DATA=... python benchmarks/m2trec_study.py work/m2trec [--set steam ...] [--variant ...]
    python benchmarks/m2trec_tables.py work/m2trec docs/results/m2trec.md

Every figure comes from `recsys evaluate` on an exported bundle; this file only writes the configs
(kept beside what they made) and calls the stages. What is finished is kept, so it can be stopped
and started again.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data.build import build_events
from features.build import EVENTS_FILE, ITEMS_FILE
from features.stage import read_manifest, write_stage
from recsys.config import RunConfig, read_config
from recsys.pipeline import evaluate_stage, export_stage, features_stage, train_stage

Table = Mapping[str, Any]
BY_TIME = {"name": "global-time", "cases": "prefixes"}
SAMPLED = {"name": "sampled_softmax", "negatives": 1024, "sampling": "popularity"}
"""For catalogues of some 20,000 items, on one core."""
SETS: dict[str, Table] = {
    "steam": {"data": {"source": "steam"}, "features": {"split": BY_TIME, "users": 4000}},
    "complete-journey": {
        "data": {"source": "complete-journey"},
        "features": {"split": BY_TIME, "users": 1500},
        "objective": SAMPLED,
    },
    "rees46": {
        "data": {"source": "rees46"},
        "features": {
            "split": {"name": "session-time", "validation_days": 0.003, "test_days": 0.004},
            "events": ["view"],
            "duplicates": "consecutive",
            "buckets": 10,
        },
        "repeats": True,
    },
    "yelp": {
        "data": {"source": "yelp"},
        "features": {"split": BY_TIME, "users": 1200, "duplicates": "first"},
        "objective": SAMPLED,
    },
    "ml-1m": {
        "data": {"source": "movielens-1m"},
        "features": {"split": BY_TIME, "users": 500, "item_columns": ["genres", "title"]},
    },
    "diginetica": {
        "data": {"source": "diginetica"},
        "features": {
            "split": {"name": "session-time", "validation_days": 40.0, "test_days": 30.0},
            "users": 30000,
        },
        "repeats": True,
        "models": ("sasrec", "gru4rec"),
        "objective": SAMPLED,
        "epochs": 10,
    },
}
RIVALS = ("m2trec", "sasrec", "gru4rec")
M2TREC = {
    "model": {
        "name": "m2trec",
        "max_len": 20,
        "dim": 64,
        "num_heads": 2,
        "dropout": 0.1,
        "prefixes": 6,
        "category_decay_steps": 1000,
    },
    "train": {"learning_rate": 2e-3, "max_epochs": 12, "batch_size": 32, "patience": 3},
}
BY_ID = {
    "model": {"max_len": 50, "dim": 64, "dropout": 0.2},
    "train": {"max_epochs": 40, "patience": 5},
}
"""Their epochs take a fraction of M2TRec's: they get three times as many, and more patience."""
VARIANTS: dict[str, Table] = {
    "m2trec": M2TREC,
    "sasrec": {**BY_ID, "model": {**BY_ID["model"], "name": "sasrec", "num_heads": 2}},
    "gru4rec": {**BY_ID, "model": {**BY_ID["model"], "name": "gru4rec"}},
    "shuffled": M2TREC,
    "full-softmax": {**M2TREC, "objective": {"name": "full_softmax"}},
}
for seed in (0, 1, 2):
    train = {**M2TREC["train"], "seed": seed}
    VARIANTS[f"multi-{seed}"] = {**M2TREC, "train": train}
    VARIANTS[f"single-{seed}"] = {"model": {**M2TREC["model"], "heads": []}, "train": train}
CUT_BY = {"rees46": "category", "complete-journey": "category", "steam": "genres"}
"""Variant `cut-<share>`: the trained m2trec, exported with a candidate cut by this column. Variant
`without-<column>`: trained without reading that column."""


def config_of(name: str, variant: str, columns: list[str]) -> dict[str, Any]:
    """The config of one run; columns: what the dataset encodes."""
    base = SETS[name]
    chosen = VARIANTS.get(variant) or M2TREC
    model = dict(chosen["model"])
    if variant.startswith("without-"):
        left_out = variant.removeprefix("without-")
        model["fields"] = [column for column in columns if column != left_out]
    train = {"batch_size": 64, "windows": "all", "patience": 2, "clip_norm": 1.0, "decay_to": 0.1,
             "repeats": bool(base.get("repeats")), "validation_users": 2000,
             **chosen["train"]}  # fmt: skip
    train["max_epochs"] = base.get("epochs", train["max_epochs"])
    train["objective"] = chosen.get("objective") or base.get("objective", {"name": "full_softmax"})
    export = {
        "sources": ["model", "popularity"],
        "policy": {"exclude_seen": not base.get("repeats")},
    }
    if variant.startswith("cut-"):
        share = float(variant.removeprefix("cut-"))
        export["category_cut"] = {"column": CUT_BY[name], "share": share}
    baselines = ["popularity", "recent_popularity", "item_knn", "session_knn"]
    evaluate = {"ks": [10, 20], "baselines": baselines if variant == first_of(name) else []}
    return {
        "data": base["data"],
        "features": base["features"],
        "model": model,
        "train": train,
        "export": export,
        "evaluate": evaluate,
    }


def first_of(name: str) -> str:
    """The variant whose report also holds the baselines."""
    return SETS[name].get("models", RIVALS)[0]


def toml(table: Mapping[str, Any]) -> str:
    """Sections of plain values, lists and one level of inline tables."""

    def value(x: Any) -> str:
        if isinstance(x, Mapping):
            return "{ " + ", ".join(f"{key} = {value(y)}" for key, y in x.items()) + " }"
        return json.dumps(x)

    lines = []
    for section, keys in table.items():
        lines += [f"[{section}]", *(f"{key} = {value(x)}" for key, x in keys.items()), ""]
    return "\n".join(lines)


def written(path: Path, table: Mapping[str, Any]) -> RunConfig:
    """Write the config and read it as the command would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml(table))
    return read_config(path)


def shuffle_items(events: Path, out: Path) -> None:
    """The same log, and the items' attributes dealt out to the items at random."""
    manifest = read_manifest(events, "events")
    config = {**manifest.config, "shuffled": True}
    with write_stage(out, kind="events", config=config, parent=manifest.sha256) as directory:
        shutil.copyfile(events / EVENTS_FILE, directory / EVENTS_FILE)
        items = pl.read_parquet(events / ITEMS_FILE)
        order = np.random.default_rng(0).permutation(len(items))
        ids = items["item_id"].gather(order)
        items.with_columns(item_id=ids).write_parquet(directory / ITEMS_FILE)


def dataset_of(root: Path, name: str, *, shuffled: bool) -> Path:
    """The dataset of a set, built unless it is there."""
    at = root / name
    first = {key: SETS[name][key] for key in ("data", "features")}
    config = written(at / "dataset.toml", first)
    events, dataset = at / "events", at / "dataset"
    if not events.exists():
        build_events(config.data, events)
    if shuffled:
        plain, events, dataset = events, at / "events-shuffled", at / "dataset-shuffled"
        if not events.exists():
            shuffle_items(plain, events)
    if not dataset.exists():
        features_stage(config, events, dataset)
    return dataset


def run(root: Path, name: str, variant: str) -> None:
    """One model on one set, to its report; stages that are there are kept."""
    at = root / name / variant
    if (at / "report").exists():
        return
    began = time.perf_counter()
    dataset = dataset_of(root, name, shuffled=variant == "shuffled")
    schema = json.loads((dataset / "schema.json").read_text())
    kinds = ("category", "categories", "text")
    columns = [c["name"] for c in schema["item_columns"] if c["kind"] in kinds]
    config = written(at / "config.toml", config_of(name, variant, columns))
    trained = (root / name / "m2trec" if variant.startswith("cut-") else at) / "run"
    if not trained.exists():
        train_stage(config, dataset, trained)
    if not (at / "bundle").exists():
        export_stage(config, trained, dataset, at / "bundle")
    evaluate_stage(at / "bundle", dataset, at / "report", config.evaluate, run=trained)
    print(f"{name} {variant}: {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="where datasets, runs, bundles and reports go")
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--variant", nargs="+", default=None, help="default: m2trec and its rivals")
    asked = parser.parse_args()
    for name in asked.set:
        models = SETS[name].get("models", RIVALS)
        for variant in asked.variant or models:
            run(asked.root, name, variant)


if __name__ == "__main__":
    main()
