"""Two reports, user by user: which bundle is better, on what, and could it be chance?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from features.errors import InputError
from features.stage import read_manifest, verify_files
from offline_eval.fingerprint import differing_parts
from offline_eval.hypotheses import holm, minimal_detectable_effect, permutation_p
from offline_eval.records import PER_USER_FILE
from offline_eval.report import Report, label, read_report
from offline_eval.significance import Difference, paired_difference
from offline_eval.table import main_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """One metric of both systems over the same users."""

    metric: str
    first: float
    second: float
    difference: Difference
    """Second minus first: positive where the second is better."""
    p: float
    """Paired permutation test, two-sided."""
    p_holm: float
    """The same, corrected for the number of metrics tested."""
    detectable: float
    """The true difference that so many users would show 4 times out of 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """How a second system differs from a first one."""

    first: str
    second: str
    fingerprint: str
    users: int
    metrics: Sequence[MetricDifference]
    differing: Sequence[str]
    """Parts of the protocol that differ; empty unless differences were allowed."""

    def verdict(self, metric: str) -> str:
        """Whether the second system is better on a metric, in words."""
        found = next(one for one in self.metrics if one.metric == metric)
        numbers = (
            f"{found.difference.value:+.4f}, 95 % interval {found.difference.low:+.4f} to "
            f"{found.difference.high:+.4f}, p = {found.p:.4f}, with Holm {found.p_holm:.4f}"
        )
        if found.p_holm <= 0.05:
            told = "better" if found.difference.value > 0 else "WORSE"
            return f"{self.second} is {told} than {self.first} on {label(metric)}: {numbers}."
        return (
            f"{self.second} cannot be told from {self.first} on {label(metric)}: {numbers}. "
            f"With {self.users:,} users a difference of {found.detectable:.4f} would usually show."
        )


def compare(
    first: Path,
    second: Path,
    *,
    system: str = "bundle",
    allow_differences: bool = False,
    resamples: int = 1_000,
    seed: int = 0,
) -> RunComparison:
    """Compare a system of two report directories, paired by user, on the main metrics.

    Few metrics, because Holm's correction asks more of each the more there are.
    Raises InputError where the protocols differ, naming the parts, unless that is allowed; also
    where the reports are over different users, or a file is damaged.
    """
    reports = [_opened(path) for path in (first, second)]
    differing = differing_parts(reports[0].protocol, reports[1].protocol)
    if differing and not allow_differences:
        raise InputError(
            f"{first} and {second} measure different things, so their numbers do not compare: "
            f"{'; '.join(differing)}. Evaluate both bundles on one dataset with one config"
        )
    tables = [_values(path, system) for path in (first, second)]
    if not tables[0]["user_id"].equals(tables[1]["user_id"]):
        raise InputError(
            f"{first} has {len(tables[0])} users and {second} has {len(tables[1])}, not the same "
            "ones: a paired comparison needs both systems on every user"
        )
    names = [name for name in main_metrics(reports[0])[0] if name in tables[0].columns]
    if missing := [name for name in names if name not in tables[1].columns]:
        raise InputError(f"{second} has no {', '.join(map(label, missing))}: use equal cut-offs")
    values = [
        {name: table[name].to_numpy().astype(np.float64) for name in names} for table in tables
    ]
    differences = {name: values[1][name] - values[0][name] for name in names}
    p_values = np.array([permutation_p(differences[name], seed=seed) for name in names])
    rows = [
        MetricDifference(
            metric=name,
            first=_mean(values[0][name]),
            second=_mean(values[1][name]),
            difference=paired_difference(
                values[1][name], values[0][name], resamples=resamples, seed=seed
            ),
            p=float(p),
            p_holm=float(adjusted),
            detectable=minimal_detectable_effect(differences[name]),
        )
        for name, p, adjusted in zip(names, p_values, holm(p_values), strict=True)
    ]
    return RunComparison(
        first=str(first),
        second=str(second),
        fingerprint=reports[0].fingerprint,
        users=len(tables[0]),
        metrics=rows,
        differing=differing,
    )


def print_comparison(found: RunComparison, console: Console | None = None) -> None:
    """A row a metric, then the verdict on the main one."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("metric", "first", "second", "difference", "95 % interval", "p (Holm)"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for one in found.metrics:
        table.add_row(
            label(one.metric),
            f"{one.first:.4f}",
            f"{one.second:.4f}",
            f"{one.difference.value:+.4f}",
            f"{one.difference.low:+.4f} {one.difference.high:+.4f}",
            f"{one.p_holm:.4f}",
            style="" if one.p_holm <= 0.05 else "dim",
        )
    console.print(table)
    for part in found.differing:
        console.print(f"CAUTION, the protocols differ in {part}", style="red")
    main = "ndcg@10" if any(one.metric == "ndcg@10" for one in found.metrics) else ""
    console.print(found.verdict(main or found.metrics[0].metric))


def _opened(directory: Path) -> Report:
    verify_files(directory, read_manifest(directory, "report"))
    return read_report(directory)


def _values(directory: Path, system: str) -> pl.DataFrame:
    """Values of one system, in order of the users."""
    frame = pl.read_parquet(directory / PER_USER_FILE).with_columns(
        pl.col("system").cast(pl.String)
    )
    found = frame.filter(pl.col("system") == system).sort("user_id")
    if found.is_empty():
        names = frame["system"].unique(maintain_order=True).to_list()
        raise InputError(f"{directory} has no system {system!r}: choose from {names}")
    return found


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
