"""The ranker of a bundle: trees, a neural ranker, or trees that read the neural ranker's score.

Trees learn from the validation cases and the candidates of exactly the bundle's sources; a neural
ranker has learnt from the training part, so what it says of those candidates is no hindsight.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from recsys.export.config import ExportConfig
from serving.bundle import Bundle, open_bundle
from serving.candidates import Candidates
from serving.manifest import Manifest, NeuralRankerSpec, OutcomeSpec, TreeRankerSpec
from serving.neural import NeuralRanker
from serving.parts import Parts
from serving.person_vectors import PersonVectors
from serving.ranker import with_neural_scores
from serving.recommender import Recommender

if TYPE_CHECKING:
    from recsys.models.interface import Ranker

TREES = "ranker.onnx"
UNSEALED = ""
"""sha256 of a manifest that is not yet written."""


@dataclass(frozen=True, slots=True)
class Stacked:
    """Proposes as the bundle does, the score of a neural ranker beside those of the sources."""

    recommender: Recommender
    neural: NeuralRanker

    def candidates(self, histories: Histories, *, at: NDArray[np.int64]) -> Candidates:
        """What the trees will choose from, and know."""
        found = self.recommender.candidates(histories, at=at)
        return with_neural_scores(found, histories, self.neural)


def check_ranker_run(config: ExportConfig, run: Path | None) -> None:
    """Raise InputError unless there is a run of a ranker exactly where the config wants one."""
    wanted = config.ranker in ("neural", "stacked")
    if wanted and run is None:
        raise InputError(
            f'export.ranker = "{config.ranker}" needs a run of a ranker: give one (in '
            f'a config for `recsys run`, a [ranker] section), or choose "lightgbm" or "none"'
        )
    if run is not None and not wanted:
        raise InputError(
            f'{run} would not be used: export.ranker is "{config.ranker}", "neural" or "stacked" '
            f"use a ranker's run"
        )


def add_ranker(
    directory: Path, manifest: Manifest, data: Dataset, config: ExportConfig, run: Path | None
) -> Manifest:
    """Write the ranker's files and name them in the manifest."""
    neural = None
    if run is not None:
        manifest, neural = _add_neural(directory, manifest, data, config, run)
    if config.ranker in ("lightgbm", "stacked"):
        manifest = _add_trees(directory, manifest, data, config, neural)
    elif neural is not None:
        manifest = manifest.model_copy(update={"ranker": neural})
    return manifest


def _add_neural(
    directory: Path, manifest: Manifest, data: Dataset, config: ExportConfig, run: Path
) -> tuple[Manifest, NeuralRankerSpec]:
    from recsys.export.neural import export_neural_ranker  # noqa: PLC0415 (torch)
    from recsys.export.neural_parity import check_parity  # noqa: PLC0415

    model, name = _load(run)
    spec = export_neural_ranker(
        model,
        name,
        data,
        directory,
        precision=config.ranker_precision,
        weights=config.task_weights,
    )
    update: dict[str, Any] = {"ranker_parity": check_parity(model, data, directory, manifest, spec)}
    if len(model.tasks) > 1:
        from recsys.export.task_calibration import fit_tasks, training_of  # noqa: PLC0415

        ranker = NeuralRanker.load(Bundle(directory, manifest, UNSEALED), spec, data.item_table)
        fitted, report = fit_tasks(ranker, data, training_of(run))
        spec = spec.model_copy(update={"calibration": fitted})
        update["report"] = {**manifest.report, "tasks": report}
    return manifest.model_copy(update=update), spec


def _load(run: Path) -> "tuple[Ranker, str]":
    from recsys.models import MODELS  # noqa: PLC0415 (torch)
    from recsys.models.interface import Ranker  # noqa: PLC0415
    from recsys.training.run import load_run  # noqa: PLC0415

    model, name, _ = load_run(run)
    if not isinstance(model, Ranker):
        raise InputError(
            f"{run} trained {name}, a {MODELS[name].kind}: the second stage needs a ranker"
        )
    return model, name


def copy_persons(source: str, directory: Path) -> OutcomeSpec | None:
    """Copy the outcome model of the bundle `source`, where one is named, and say what it is.

    Raises InputError where it predicts no outcome, BundleError where it is damaged.
    """
    if not source:
        return None
    bundle = open_bundle(Path(source))
    spec = bundle.manifest.outcomes
    if spec is None:
        raise InputError(
            f"export.lightgbm.persons = '{source}' recommends items: expected the bundle of an "
            f"outcome model"
        )
    names = {"graph": "persons.onnx", "schema_file": "persons.json"}
    names |= {"items": "persons.items.parquet"} if spec.items else {}
    for part, name in names.items():
        shutil.copyfile(bundle.path / getattr(spec, part), directory / name)
    return spec.model_copy(update={**names, "golden": ()})


def _add_trees(
    directory: Path,
    manifest: Manifest,
    data: Dataset,
    config: ExportConfig,
    neural: NeuralRankerSpec | None,
) -> Manifest:
    from recsys.export.ranker import fit_ranker  # noqa: PLC0415 (lightgbm, only where needed)

    bundle = Bundle(directory, manifest, UNSEALED)
    recommender = Recommender(Parts.load(bundle))
    proposer = recommender
    if neural is not None:
        proposer = Stacked(recommender, NeuralRanker.load(bundle, neural, data.item_table))
    persons = copy_persons(config.lightgbm.persons, directory)
    vectors = persons and PersonVectors.load(bundle, persons)
    fit = fit_ranker(proposer, data, config.lightgbm, vectors)
    (directory / TREES).write_bytes(fit.onnx)
    report = {key: value for key, value in asdict(fit).items() if key != "onnx"}
    update: dict[str, Any] = {
        "ranker": TreeRankerSpec(
            graph=TREES,
            features=fit.features,
            label_delay_days=config.lightgbm.label_delay_days,
            neural=neural,
            persons=persons,
        ),
        "report": {**manifest.report, "ranker": json.loads(json.dumps(report))},
    }
    return manifest.model_copy(update=update)
