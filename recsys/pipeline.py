"""All stages of one config into one directory, each skipped when its result is already there.

    out/events  out/dataset  out/run  out/bundle  out/report

Rerunning after an interruption continues where it stopped: finished stages are kept, an unfinished
training resumes from its last checkpoint, other unfinished stages start again. A finished stage
that another config or another parent made is refused, never used and never overwritten.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from features.errors import InputError
from features.layout import Split
from features.stage import MANIFEST, read_manifest
from recsys.config import EvaluateConfig, RunConfig, read_config
from recsys.export.config import ExportConfig

if TYPE_CHECKING:
    from offline_eval.report import Report
    from recsys.training.run import TrainResult

CEILING = "ceiling.json"
"""Written beside synthetic events: the best score that any model can reach."""

Say = Callable[[str], None]
"""Receives one line a stage."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The stage directories of one pipeline, below `root`."""

    root: Path

    def __truediv__(self, stage: str) -> Path:
        """Directory of `events`, `dataset`, `run`, `bundle` or `report`."""
        return self.root / stage


def train_stage(config: RunConfig, dataset: Path, out: Path) -> "TrainResult":
    """Train the config's model on a dataset; raises InputError when the config names none."""
    from recsys.training.run import train  # noqa: PLC0415 - torch loads only where it trains

    if config.model is None:
        raise InputError("the config has no [model] section: name a model, for instance sasrec")
    fields = dict(config.model)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise InputError('[model] has no name: write, for instance, name = "sasrec"')
    return train(name, fields, config.train, dataset, out)


def evaluate_stage(
    bundle: Path,
    dataset: Path,
    out: Path,
    settings: EvaluateConfig,
    *,
    split: Split = "test",
    ceiling: Path | None = None,
) -> "Report":
    """Measure a bundle and print the table; `ceiling` is a synthetic shop's ceiling.json."""
    from recsys.evaluate import evaluate  # noqa: PLC0415 - loads Polars and onnxruntime

    best = json.loads(ceiling.read_text()) if ceiling is not None and ceiling.is_file() else None
    return evaluate(
        bundle,
        dataset,
        out,
        split=split,
        ks=settings.ks,
        baselines=settings.baselines,
        resamples=settings.resamples,
        seed=settings.seed,
        ceiling=best,
    )


def run_pipeline(path: Path, root: Path, say: Say) -> None:
    """Run every stage of the config at `path` that `root` does not hold yet."""
    from data.build import build_events  # noqa: PLC0415 - Polars loads only when it works
    from features.build import build_dataset  # noqa: PLC0415
    from recsys.export.bundle import export  # noqa: PLC0415

    config = read_config(path)
    at = Workspace(root)
    events, dataset, bundle = at / "events", at / "dataset", at / "bundle"
    root.mkdir(parents=True, exist_ok=True)
    if not _kept(events, "events", ("source", config.data), "", say):
        _timed(say, "events", events, lambda: build_events(config.data, events))
    parent = read_manifest(events, "events").sha256
    if not _kept(dataset, "dataset", ("features", config.features), parent, say):
        _timed(say, "dataset", dataset, lambda: build_dataset(events, config.features, dataset))
    parent = read_manifest(dataset, "dataset").sha256
    run = at / "run" if config.model is not None else None
    if run is not None and not _kept(run, "run", ("train", config.train), parent, say):
        _timed(say, "run", run, lambda: train_stage(config, dataset, run))
    if not _kept_bundle(bundle, config.export, parent, say):
        _timed(say, "bundle", bundle, lambda: export(run, dataset, config.export, bundle))
    report = at / "report"
    if report.exists():
        say(f"report   {report} is there already")
        return
    ceiling = events / CEILING
    _timed(
        say,
        "report",
        report,
        lambda: evaluate_stage(bundle, dataset, report, config.evaluate, ceiling=ceiling),
    )


def _timed(say: Say, stage: str, out: Path, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    say(f"{stage:8} {out}  ({time.perf_counter() - started:.1f} s)")


def _kept(out: Path, kind: str, made_by: tuple[str, Any], parent: str, say: Say) -> bool:
    """True when `out` is there and was made by this config from this parent; False when absent.

    made_by: key of the manifest's config, and the section that belongs there.
    """
    if not out.exists():
        return False
    manifest = read_manifest(out, kind)
    key, wanted = made_by
    _refuse_other(out, manifest.config.get(key), wanted)
    if manifest.parent != parent:
        raise InputError(f"{out} was made from another parent stage: delete it to make it again")
    say(f"{kind:8} {out} is there already")
    return True


def _kept_bundle(out: Path, wanted: ExportConfig, dataset: str, say: Say) -> bool:
    if not out.exists():
        return False
    from serving.bundle import open_bundle  # noqa: PLC0415 - numpy and pydantic, for this alone

    manifest = open_bundle(out).manifest
    _refuse_other(out, manifest.config, wanted)
    if manifest.dataset != dataset:
        raise InputError(f"{out / MANIFEST} names another dataset: delete it to export again")
    say(f"bundle   {out} is there already")
    return True


def _refuse_other(out: Path, found: Any, wanted: Any) -> None:
    """Raise InputError unless `found`, read as the same section, equals `wanted`.

    A key that an older release did not know takes its default. Names the first difference.
    """
    expected = json.loads(json.dumps(asdict(wanted)))
    with suppress(ValidationError):  # of another kind altogether: the comparison says which
        section = TypeAdapter[Any](type(wanted)).validate_python(found)
        found = json.loads(json.dumps(asdict(section)))
    if found != expected:
        raise InputError(
            f"{out} was made by another config (found {_first_difference(found, expected)}): "
            f"delete it, or choose another directory"
        )


def _first_difference(found: Any, expected: Any, path: str = "") -> str:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in [*expected, *(found.keys() - expected.keys())]:
            if found.get(key) != expected.get(key):
                return _first_difference(found.get(key), expected.get(key), f"{path}.{key}")
    return f"{path.lstrip('.')} = {found!r}, the config says {expected!r}"
