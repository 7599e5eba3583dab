"""A bundle that recommends by given scores, for tests that need to know every list."""

from pathlib import Path

import numpy as np

from features.layout import CATALOGUE, ITEMS, SCHEMA, vocabulary_file
from features.stage import read_manifest
from features.store import Dataset
from serving.bundle import seal, write_bundle
from serving.manifest import Manifest, PopularitySpec
from serving.policy_spec import PolicySpec


def write_popular(out: Path, dataset: Path, scores: np.ndarray, *, exclude_seen: bool) -> None:
    """A bundle that recommends by the given scores, column = dense id."""
    schema = Dataset.open(dataset).schema
    with write_bundle(out) as directory:
        for name in (SCHEMA, ITEMS, CATALOGUE, vocabulary_file("item")):
            (directory / name).write_bytes((dataset / name).read_bytes())
        np.save(directory / "popularity.scores.npy", scores.astype(np.float32))
        source = PopularitySpec(name="popularity", scores="popularity.scores.npy", candidates=10)
        draft = Manifest(
            dataset=read_manifest(dataset, "dataset").sha256,
            run="",
            num_items=schema.num_items,
            sources=(source,),
            policy=PolicySpec(exclude_seen=exclude_seen),
            config={},
        )
        seal(directory, draft)
