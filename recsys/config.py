"""One TOML file describes a result from raw data to report. Each section belongs to a stage.

    [data]      where events, items and users come from       data.config
    [features]  what is kept, how it is split and encoded     features.config
    [life]      events as documents, cases and labels: for outcome models, in place of [features]
    [model]     name = "sasrec" and the model's own sizes     recsys.models
    [train]     the optimisation                              recsys.training.config
    [ranker]    name = "dare" and the second stage's sizes    recsys.models
    [train_ranker]  its optimisation                          recsys.training.config
    [export]    candidate sources, ranker, policy             recsys.export.config
    [evaluate]  cut-offs, baselines, intervals                here

Unknown keys, wrong types and bad combinations are refused, with the key's path.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from data.config import DataConfig
from features.config import FeatureConfig
from features.errors import InputError
from features.life_config import LifeConfig
from recsys.export.config import ExportConfig
from recsys.training.config import TrainConfig

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What `recsys evaluate` measures."""

    __pydantic_config__ = STRICT

    ks: tuple[int, ...] = (1, 5, 10, 20)
    """Cut-offs, in items."""
    baselines: tuple[str, ...] = ("popularity", "recent_popularity", "item_knn", "ials", "ease")
    outcome_baselines: tuple[str, ...] = ("prevalence", "life_table", "logistic", "lightgbm")
    """Of bundles that predict outcomes."""
    resamples: int = 1_000
    """Bootstrap resamples of the users behind every interval."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The whole file. A stage that is not described takes its defaults; [data] must be there."""

    __pydantic_config__ = STRICT

    data: DataConfig
    features: FeatureConfig = field(default_factory=FeatureConfig)
    life: LifeConfig | None = None
    """Given: the dataset is one of lives, and the model predicts outcomes."""
    model: Mapping[str, Any] | None = None
    """`name` and the fields of that model's config; None exports without a neural source."""
    train: TrainConfig = field(default_factory=TrainConfig)
    ranker: Mapping[str, Any] | None = None
    """`name` and the fields of a ranker's config, for export.ranker = "neural" or "stacked"."""
    train_ranker: TrainConfig = field(default_factory=TrainConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def explain(error: ValidationError) -> str:
    """Each problem as `section.key: reason (found value)`, at most five."""
    lines = []
    for problem in error.errors()[:5]:
        path = ".".join(str(part) for part in problem["loc"])
        found = problem.get("input")
        shown = "" if isinstance(found, Mapping) else f" (found {found!r})"
        reason = problem["msg"]
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            reason = "unknown key: check its spelling"
        lines.append(f"{path or 'file'}: {reason}{shown}")
    more = len(error.errors()) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def read_config(path: Path) -> RunConfig:
    """Read and check a TOML file. Raises InputError that names each wrong key."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    try:
        return TypeAdapter(RunConfig).validate_python(table)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
