"""A report: systems measured under one protocol, with intervals and sentences that settle things.

Plain data with one JSON form; `offline_eval.table`, `markdown` and `html` only draw it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from features.errors import InputError
from offline_eval.fingerprint import fingerprint
from offline_eval.significance import Difference, Estimate

METRICS_FILE = "metrics.json"
LABELS: Mapping[str, str] = {
    "hit_rate": "HR",
    "recall": "Recall",
    "precision": "Precision",
    "ndcg": "NDCG",
    "ndcg_full": "NDCG-full",
    "mrr": "MRR",
    "map": "MAP",
    "r_precision": "R-precision",
    "auc": "AUC",
    "coverage": "Coverage",
    "gini": "Gini",
    "novelty": "Novelty (bits)",
    "popularity": "Popularity",
    "diversity": "Diversity",
    "serendipity": "Serendipity",
}
MEANINGS: Mapping[str, str] = {
    "hit_rate": "Share of users with at least one target among the first k.",
    "recall": "Share of a user's targets among the first k.",
    "ndcg": "Gain 1 / log2(rank + 1) of each hit, divided by the best that k ranks allow.",
    "ndcg_full": "The same gain divided by that of k hits, however few targets: stricter.",
    "precision": "Share of the first k that are targets.",
    "r_precision": "Targets among the first R, divided by R, the user's number of targets; "
    "undefined where R > k.",
    "mrr": "1 / rank of the first hit, 0 where the first k hold none.",
    "map": "Mean precision at the ranks of the hits, divided by the best that k ranks allow.",
    "auc": "Chance that a target stands above an item that is none; 0.5 is a random order.",
    "coverage": "Share of the catalogue that at least one list shows.",
    "gini": "Inequality of exposure: 0 all items equally often, near 1 a few items only.",
    "novelty": "Mean -log2 of the shown items' share of training events: rare items are novel.",
    "popularity": "Training events of the shown items, in units of the average item's.",
    "diversity": "1 - cosine of the shown items' categories, mean over pairs of a list.",
    "serendipity": "Share of the first k that are targets a popularity list would not have shown.",
}
EXPOSURE = ("coverage", "gini", "novelty", "popularity", "diversity", "serendipity")
SECONDARY = ("ndcg_full", "precision", "r_precision")
"""Metrics that say again what others say: in the full tables only."""
"""Metrics that say what is shown, not whether it is right: higher need not be better."""
Kind = Literal["bundle", "stage", "baseline"]
"""bundle: what ships, all steps. stage: the bundle cut short. baseline: what it must beat."""


def label(name: str) -> str:
    """How a metric is written for people.

    >>> label("ndcg@10"), label("auc")
    ('NDCG@10', 'AUC')
    """
    metric, at, k = name.partition("@")
    name = LABELS.get(metric, metric)
    return name.replace(" (", f"{at}{k} (") if "(" in name else name + at + k


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One measured system."""

    name: str
    kind: Kind
    estimates: Mapping[str, Estimate]
    """By metric name, such as `ndcg@10`, `auc` or `coverage@10`."""
    letters: str = ""
    """Systems that share a letter cannot be told apart on the main metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutEstimate:
    """One system on one group of targets."""

    cut: str
    group: str
    system: str
    metric: str
    estimate: Estimate
    targets: int = 0
    """Targets in the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Whether the first system is better than the second on one metric, user by user."""

    first: str
    second: str
    metric: str
    difference: Difference
    p: float = math.nan
    """Paired permutation test, two-sided."""
    p_holm: float = math.nan
    """The same, corrected for all comparisons of the report."""
    detectable: float = math.nan
    """The true difference that so many users would show 4 times out of 5."""

    @property
    def sentence(self) -> str:
        """The verdict in words, with the numbers behind it."""
        found = self.difference
        name = label(self.metric)
        if found.verdict == "not distinguishable":
            told = f"{self.first} does NOT beat {self.second} on {name}: the interval of the "
            told += f"difference holds 0 ({found.value:+.4f}, 95 % interval "
        else:
            beats = "beats" if found.verdict == "better" else "is WORSE than"
            told = (
                f"{self.first} {beats} {self.second} on {name}: {found.value:+.4f} (95 % interval "
            )
        told += f"{found.low:+.4f} to {found.high:+.4f}, {found.users:,} users paired"
        if not math.isnan(self.p_holm):
            told += f", p = {self.p_holm:.2g} with Holm"
        if found.verdict == "not distinguishable" and not math.isnan(self.detectable):
            told += f"; a true difference of {self.detectable:.4f} would usually show"
        return told + ")."


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStages:
    """What the candidates allow, and where targets were lost."""

    recalls: Mapping[str, Estimate]
    """Share of the targets among the candidates, by source."""
    oracle: Estimate
    """The main metric with the relevant candidates on top."""
    fates: Mapping[str, int]
    """Targets by what happened to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One case to look at. Items by title, or raw id where they have none."""

    user: str
    """Raw id."""
    history: Sequence[str]
    """The most recent items, oldest first."""
    history_length: int
    listed: Sequence[str]
    """What the bundle recommends, best first."""
    hits: Sequence[bool]
    """Which of them are targets."""
    targets: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was measured, and under which protocol."""

    title: str
    protocol: Mapping[str, Any]
    counts: Mapping[str, int]
    """Cases, targets, and what was left out, by a name for people."""
    systems: Sequence[System]
    comparisons: Sequence[Comparison]
    notes: Sequence[str]
    """What a reader must know to read the numbers right."""
    ks: tuple[int, ...]
    main_k: int
    """The cut-off of short tables and of the comparisons."""
    ceiling: Mapping[str, float]
    """The best that any model can reach, by metric name, where the data is simulated."""
    cuts: Sequence[CutEstimate]
    """The systems on parts of the targets."""
    two_stages: Sequence[TwoStages]
    """One where the bundle has a ranker, else none."""
    examples: Sequence[Example]
    learning: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """(step, value) of each validation in training, by name, where the run is known."""

    @property
    def fingerprint(self) -> str:
        """Numbers of reports with equal fingerprints may be compared."""
        return fingerprint(self.protocol)

    @property
    def bundle(self) -> System:
        """The system the report is about."""
        return next(system for system in self.systems if system.kind == "bundle")

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order of the first system."""
        return list(self.systems[0].estimates)

    def cut_groups(self) -> dict[str, dict[str, list[CutEstimate]]]:
        """Cut estimates by cut and group, without the groups that no target falls in."""
        found: dict[str, dict[str, list[CutEstimate]]] = {}
        for one in self.cuts:
            if one.estimate.defined:
                found.setdefault(one.cut, {}).setdefault(one.group, []).append(one)
        return found

    def ceiling_shares(self) -> dict[str, float]:
        """The share of the ceiling that the bundle reaches, by metric name."""
        found = self.bundle.estimates
        return {
            name: found[name].value / best
            for name, best in self.ceiling.items()
            if name in found and best > 0
        }

    def with_learning(self, curves: Mapping[str, Sequence[tuple[float, float]]]) -> "Report":
        """The same report, with learning curves."""
        return replace(self, learning=curves)

    def to_json(self) -> str:
        """The report as JSON; nan is null."""
        content = without_nan(asdict(self) | {"fingerprint": self.fingerprint})
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path) -> "Report":
        """Read `to_json`'s text; raises InputError when it is not such a report."""
        try:
            content = json.loads(text)
            claimed = content.pop("fingerprint")
            content["ks"] = tuple(content["ks"])
            content["systems"] = [_system(system) for system in content["systems"]]
            content["comparisons"] = [_comparison(found) for found in content["comparisons"]]
            content["cuts"] = [_cut(found) for found in content["cuts"]]
            content["two_stages"] = [_two_stages(found) for found in content["two_stages"]]
            content["examples"] = [Example(**found) for found in content["examples"]]
            report = cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} is not a report ({error}): evaluate again") from error
        if report.fingerprint != claimed:
            raise InputError(
                f"{where} says fingerprint {claimed}, its protocol gives {report.fingerprint}: "
                "it was edited or made by another release; evaluate again"
            )
        return report


def read_report(directory: Path) -> Report:
    """The report in a stage directory."""
    path = directory / METRICS_FILE
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"{path} cannot be read: is {directory} a report directory?") from error
    return Report.from_json(text, path)


def _system(content: Mapping[str, Any]) -> System:
    estimates = {name: Estimate(**_with_nan(found)) for name, found in content["estimates"].items()}
    return System(**{**content, "estimates": estimates})


def _comparison(content: Mapping[str, Any]) -> Comparison:
    difference = Difference(**_with_nan(content["difference"]))
    return Comparison(**{**_with_nan(content), "difference": difference})


def _cut(content: Mapping[str, Any]) -> CutEstimate:
    return CutEstimate(**{**content, "estimate": Estimate(**_with_nan(content["estimate"]))})


def _two_stages(content: Mapping[str, Any]) -> TwoStages:
    recalls = {name: Estimate(**_with_nan(one)) for name, one in content["recalls"].items()}
    oracle = Estimate(**_with_nan(content["oracle"]))
    return TwoStages(recalls=recalls, oracle=oracle, fates=content["fates"])


def _with_nan(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def without_nan(content: Any) -> Any:
    """The same content with None for nan, which JSON does not know."""
    if isinstance(content, float) and math.isnan(content):
        return None
    if isinstance(content, Mapping):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return content
