"""All stages of one config into one directory, each skipped when its result is already there.

    out/events  out/dataset  out/run  out/ranker-run  out/bundle  out/report

Rerunning after an interruption continues where it stopped: finished stages are kept, an unfinished
training resumes from its last checkpoint, other unfinished stages start again. A finished stage
that another config or another parent made is refused, never used and never overwritten.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
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
    from features.spread import Spread
    from offline_eval.report import Report
    from recsys.training.config import TrainConfig
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
        """Directory of `events`, `dataset`, `run`, `ranker-run`, `bundle` or `report`."""
        return self.root / stage


def features_stage(
    config: RunConfig,
    events: Path,
    out: Path,
    base: Path | None = None,
    spread: "Spread | None" = None,
) -> None:
    """Encode events for training: a dataset of lives where the config has a [life] section.

    base: an older dataset that a log in parts continues. spread: where its parts are cleaned.
    """
    if config.life is not None:
        if base is not None or spread is not None:
            raise InputError(
                "a dataset of lives is built anew and here: leave out --base and --ray"
            )
        from features.life_build import build_lives  # noqa: PLC0415 - Polars loads where it works

        build_lives(events, config.life, out)
    else:
        from features.build import build_dataset  # noqa: PLC0415

        build_dataset(events, config.features, out, base, spread)


def train_stage(config: RunConfig, dataset: Path, out: Path) -> "TrainResult":
    """Train the config's model on a dataset; raises InputError when the config names none."""
    from recsys.training.run import train  # noqa: PLC0415 - torch loads only where it trains

    if config.model is None:
        raise InputError("the config has no [model] section: name a model, for instance sasrec")
    name, fields = _named("model", config.model)
    return train(name, fields, config.train, dataset, out)


def train_ranker_stage(config: RunConfig, dataset: Path, out: Path) -> "TrainResult":
    """Train the config's second stage; raises InputError when the config names none."""
    from recsys.training.run import train  # noqa: PLC0415 - torch loads only where it trains

    if config.ranker is None:
        raise InputError("the config has no [ranker] section: name a ranker, for instance dare")
    name, fields = _named("ranker", config.ranker)
    return train(name, fields, config.train_ranker, dataset, out)


def ranker_of(config: RunConfig) -> "tuple[str, dict[str, Any], TrainConfig]":
    """The ranker of a config, its fields and its training: [ranker], or else [model].

    Raises InputError where there is neither.
    """
    if config.ranker is not None:
        return *_named("ranker", config.ranker), config.train_ranker
    if config.model is None:
        raise InputError("the config has neither a [ranker] nor a [model]: name dare, for instance")
    return *_named("model", config.model), config.train


def _named(section: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A model's name, and its other fields."""
    fields = dict(given)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        example = "sasrec" if section == "model" else "dare"
        raise InputError(f'[{section}] has no name: write, for instance, name = "{example}"')
    return name, fields


def export_stage(
    config: RunConfig,
    run: Path | None,
    dataset: Path,
    out: Path,
    *,
    ranker_run: Path | None = None,
    reuse: Path | None = None,
) -> None:
    """Write a bundle: of an outcome model where the config has a [life] section."""
    if config.life is None:
        from recsys.export.bundle import export  # noqa: PLC0415 - torch loads where it works

        export(run, dataset, config.export, out, ranker_run=ranker_run, reuse=reuse)
        return
    if reuse is not None:
        raise InputError("a bundle that predicts outcomes has no item vectors: leave --reuse out")
    if run is None:
        raise InputError("a bundle that predicts outcomes needs a trained model: give --run")
    from recsys.export.outcomes import export_outcomes  # noqa: PLC0415

    export_outcomes(run, dataset, config.export, out)


def evaluate_stage(  # noqa: PLR0913 (each says where something lies)
    bundle: Path,
    dataset: Path,
    out: Path,
    settings: EvaluateConfig,
    *,
    split: Split = "test",
    ceiling: Path | None = None,
    users: Path | None = None,
    user_columns: Sequence[str] = (),
    run: Path | None = None,
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
        users=users,
        user_columns=user_columns,
        run=run,
    )


def holds_lives(dataset: Path) -> bool:
    """Whether a directory is a dataset of lives; anything else is left to who reads it."""
    with suppress(InputError):
        return read_manifest(dataset, "lives").kind == "lives"
    return False


def outcome_report_stage(
    bundle: Path, lives: Path, out: Path, settings: EvaluateConfig, *, split: Split = "test"
) -> None:
    """Measure a bundle that predicts outcomes, beside simpler models, and print the table."""
    from recsys.evaluate_outcomes import evaluate_outcomes  # noqa: PLC0415 - loads lightgbm

    names = settings.outcome_baselines
    sizes = {"resamples": settings.resamples, "seed": settings.seed}
    evaluate_outcomes(bundle, lives, out, split=split, baselines=names, **sizes)


def run_pipeline(path: Path, root: Path, say: Say) -> None:
    """Run every stage of the config at `path` that `root` does not hold yet."""
    from data.build import build_events  # noqa: PLC0415 - Polars loads only when it works

    config = read_config(path)
    at = Workspace(root)
    events, dataset, bundle = at / "events", at / "dataset", at / "bundle"
    root.mkdir(parents=True, exist_ok=True)
    if not _kept(events, "events", ("source", config.data), "", say):
        _timed(say, "events", events, lambda: build_events(config.data, events))
    parent = read_manifest(events, "events").sha256
    kind = "dataset" if config.life is None else "lives"
    section = ("features", config.features) if config.life is None else ("life", config.life)
    if not _kept(dataset, kind, section, parent, say):
        _timed(say, "dataset", dataset, lambda: features_stage(config, events, dataset))
    parent = read_manifest(dataset, kind).sha256
    run = at / "run" if config.model is not None else None
    if run is not None and not _kept(run, "run", ("train", config.train), parent, say):
        _timed(say, "run", run, lambda: train_stage(config, dataset, run))
    second = at / "ranker-run" if config.ranker is not None else None
    made_by = ("train", config.train_ranker)
    if second is not None and not _kept(second, "run", made_by, parent, say):
        _timed(say, "ranker", second, lambda: train_ranker_stage(config, dataset, second))
    if not _kept_bundle(bundle, config.export, parent, say):
        _timed(
            say,
            "bundle",
            bundle,
            lambda: export_stage(config, run, dataset, bundle, ranker_run=second),
        )
    report = at / "report"
    if report.exists():
        say(f"report   {report} is there already")
        return
    if config.life is not None:
        measure = lambda: outcome_report_stage(bundle, dataset, report, config.evaluate)  # noqa: E731
        _timed(say, "report", report, measure)
        return
    ceiling = events / CEILING
    _timed(
        say,
        "report",
        report,
        lambda: evaluate_stage(bundle, dataset, report, config.evaluate, ceiling=ceiling, run=run),
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
    expected = json.loads(json.dumps(asdict(wanted), default=str))  # dates
    with suppress(ValidationError):  # of another kind altogether: the comparison says which
        section = TypeAdapter[Any](type(wanted)).validate_python(found)
        found = json.loads(json.dumps(asdict(section), default=str))
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
