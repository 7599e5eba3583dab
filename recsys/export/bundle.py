"""`run/` and `dataset/` to `bundle/`: everything serving needs, and what was measured of it.

    1. copy what the dataset knows of items (vocabularies, attributes, catalogue, timeline)
    2. one file or a few for each source: ONNX graph and vectors, neighbours, popularity
    3. train the ranker on the candidates of exactly these sources
    4. measure: parity of the graph, recall of the index; answer the golden requests
    5. seal, verify, publish

A killed export leaves a hidden directory without a manifest: it does not load, and the next
export removes it. The same inputs give the same files.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.covisits import COVISITS
from features.errors import InputError
from features.layout import CATALOGUE, ITEMS, SCHEMA, TOKENIZER, vocabulary_file
from features.stage import read_manifest, verify_files
from features.store import Dataset
from recsys.baselines.interface import Interactions
from recsys.baselines.item_knn import ItemKNN
from recsys.baselines.popularity import Popularity, RecentPopularity
from recsys.export.config import ExportConfig
from recsys.export.second_stage import UNSEALED, add_ranker, check_ranker_run
from recsys.export.segments import segment_scores
from serving.bundle import FILE_NAME, Bundle, seal, write_bundle
from serving.golden import answer_golden
from serving.manifest import (
    HistoryNeighbourSpec,
    Manifest,
    ModelSpec,
    NeighbourSpec,
    PopularitySpec,
    SourceSpec,
)
from serving.parts import Parts
from serving.recommender import Recommender

if TYPE_CHECKING:
    from recsys.export.model import ExportedModel

USES_RUN = (ModelSpec, HistoryNeighbourSpec)
"""Sources made of a training run."""


def export(
    run: Path | None,
    dataset: Path,
    config: ExportConfig,
    out: Path,
    *,
    ranker_run: Path | None = None,
    reuse: Path | None = None,
) -> None:
    """Write a bundle to `out`, which must not exist.

    run: a retriever's training run on the same dataset; None makes a bundle without a neural
    source (and without importing torch). ranker_run: a ranker's, where the config wants one.
    reuse: another bundle of the same item encoder, for the vectors of items that have not changed.
    Raises InputError for inputs that do not fit together, BundleError when the result would not
    serve the model's numbers.
    """
    check_ranker_run(config, ranker_run)
    data = Dataset.open(dataset, verify=True)
    run_hash = "" if run is None else _check_run(run, data)
    ranker_hash = "" if ranker_run is None else _check_run(ranker_run, data)
    with write_bundle(out) as directory:
        _copy_items(data, directory, timeline=config.ranker != "none")
        model = None
        specs: list[SourceSpec] = []
        for name in config.sources:
            match name:
                case "model" if run is not None:
                    model = _export_model(run, data, config, directory, reuse)
                    specs.append(model.spec)
                case "history_knn" if run is not None:
                    specs.append(_export_histories(run, data, config, directory))
                case "item_knn":
                    specs.append(_export_neighbours(data, config, directory))
                case "popularity":
                    specs.append(_export_popularity(data, config, directory))
        manifest = Manifest(
            dataset=data.manifest.sha256,
            run=run_hash if any(isinstance(one, USES_RUN) for one in specs) else "",
            ranker_run=ranker_hash,
            num_items=data.schema.num_items,
            sources=tuple(specs),
            policy=config.policy,
            parity=model.parity if model else (),
            item_parity=model.item_parity if model else (),
            quantized=model.quantized if model else None,
            config=_plain(asdict(config)),
            report={} if model is None or reuse is None else {"item_vectors_reused": model.reused},
            versions=_versions(config, with_model=model is not None or ranker_run is not None),
        )
        manifest = add_ranker(directory, manifest, data, config, ranker_run)
        recommender = Recommender(Parts.load(Bundle(directory, manifest, UNSEALED)))
        update: dict[str, Any] = {}
        if model:
            tuned, recall = model.measure_recall(recommender, data)
            sources = tuple(tuned if spec.name == tuned.name else spec for spec in manifest.sources)
            update = {"index_recall": recall, "sources": sources}
        update["golden"] = answer_golden(recommender, config.golden_requests)
        seal(directory, manifest.model_copy(update=update))
        Recommender.load(directory).check_golden()


def _check_run(run: Path, data: Dataset) -> str:
    manifest = read_manifest(run, "run")
    verify_files(run, manifest)
    if manifest.parent != data.manifest.sha256:
        raise InputError(
            f"{run} was trained on another dataset ({manifest.parent[:12]}) than {data.path} "
            f"({data.manifest.sha256[:12]}): train again, or export with the dataset of the run"
        )
    return manifest.sha256


def _copy_items(data: Dataset, directory: Path, *, timeline: bool) -> None:
    """Copies, so that a bundle depends on nothing; the files of users stay behind."""
    names = [SCHEMA, ITEMS, CATALOGUE, vocabulary_file("item")]
    names += [vocabulary_file(column.name) for column in data.schema.item_columns]
    names = [name for name in [*names, TOKENIZER] if (data.path / name).exists()]
    if timeline:
        names += [path.name for path in sorted(data.path.glob("item-timeline*.arrow"))]
        names += [COVISITS] if data.schema.covisit_reach else []
    for name in names:
        if not FILE_NAME.fullmatch(name):
            raise InputError(
                f"{name} cannot be a file of a bundle: name the item column with letters, digits, "
                f". _ - only and build the dataset again"
            )
        shutil.copyfile(data.path / name, directory / name)


def _export_model(
    run: Path, data: Dataset, config: ExportConfig, directory: Path, reuse: Path | None
) -> "ExportedModel":
    from recsys.export.model import export_model  # noqa: PLC0415 (torch, only where it is needed)

    return export_model(run, data, config, directory, reuse)


def _export_histories(
    run: Path, data: Dataset, config: ExportConfig, directory: Path
) -> SourceSpec:
    from recsys.export.histories import export_histories  # noqa: PLC0415 (torch)

    return export_histories(run, data, config, directory)


def _interactions(data: Dataset) -> Interactions:
    starts, ends = data.cuts["start"], data.cuts["train_end"]
    return Interactions(data.items, data.timestamps, starts, ends, data.schema.num_items)


def _export_neighbours(data: Dataset, config: ExportConfig, directory: Path) -> NeighbourSpec:
    fitted = ItemKNN.fit(_interactions(data), num_neighbours=config.neighbours)
    indptr, indices, scores = fitted.neighbours
    spec = NeighbourSpec(
        name="item_knn",
        indptr="item_knn.indptr.npy",
        indices="item_knn.indices.npy",
        scores="item_knn.scores.npy",
        candidates=config.candidates,
    )
    np.save(directory / spec.indptr, indptr.astype(np.int64))
    np.save(directory / spec.indices, indices.astype(np.int32))
    np.save(directory / spec.scores, scores.astype(np.float32))
    return spec


def _export_popularity(data: Dataset, config: ExportConfig, directory: Path) -> PopularitySpec:
    interactions = _interactions(data)
    if config.popularity_days is None:
        fitted = Popularity.fit(interactions)
    else:
        fitted = RecentPopularity.fit(
            interactions, days=config.popularity_days, cutoff=data.schema.cutoff
        )
    spec = PopularitySpec(
        name="popularity", scores="popularity.scores.npy", candidates=config.candidates
    )
    if config.segments is not None:
        names, scores = segment_scores(data, config.segments)
        update = {"segments": names, "segment_scores": "popularity.segments.npy"}
        spec = spec.model_copy(update=update)
        np.save(directory / spec.segment_scores, scores)
    np.save(directory / spec.scores, fitted.item_scores.astype(np.float32))
    return spec


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that a manifest equals itself when read."""
    return json.loads(json.dumps(config))


def _versions(config: ExportConfig, *, with_model: bool) -> dict[str, str]:
    names = ["numpy", "onnxruntime"]
    if with_model:
        names += ["torch", "onnx", "onnxscript"]
    if config.ranker in ("lightgbm", "stacked"):
        names += ["lightgbm", "onnxmltools", "skl2onnx"]
    return {name: version(name) for name in sorted(names)}
