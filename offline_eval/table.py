"""A report on a terminal: the main metrics, as many side by side as the width allows."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from offline_eval.report import EXPOSURE, SECONDARY, Report, System, TwoStages, label
from offline_eval.significance import Estimate

STYLES = {"bundle": "bold", "stage": "", "baseline": "dim"}
CELL = 12
"""Characters of a line that one metric takes, with the space beside it."""
NAME = 18
"""And the name of a system; a longer one is folded."""


def main_metrics(report: Report) -> tuple[list[str], list[str]]:
    """Metrics of the short table, and sentences on those left out for being equal to another."""
    at = f"@{report.main_k}"
    names = [name for name in report.metrics if name.endswith(at) or "@" not in name]
    left_out = {*EXPOSURE[1:], *SECONDARY}
    names = [name for name in names if name.partition("@")[0] not in left_out]
    sentences = []
    for name, twin in ((f"recall{at}", f"hit_rate{at}"), (f"map{at}", f"mrr{at}")):
        if {name, twin} <= set(names) and _equal(report.systems, name, twin):
            names.remove(name)
            sentences.append(f"{label(name)} equals {label(twin)} here: each case has one target.")
    return names, sentences


def _equal(systems: Sequence[System], name: str, twin: str) -> bool:
    pairs = [(system.estimates[name], system.estimates[twin]) for system in systems]
    return all(math.isclose(first.value, second.value) for first, second in pairs)


def shown(estimate: Estimate) -> str:
    """The value, or a dash where it is undefined."""
    return "-" if math.isnan(estimate.value) else f"{estimate.value:.4f}"


def interval(estimate: Estimate) -> str:
    """The interval in brackets, or nothing where it is undefined."""
    if math.isnan(estimate.low):
        return ""
    return f"[{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value >= 0 else f"{value:.3f}"


def span(estimate: Estimate) -> str:
    """The interval as short as can be read: `.032-.042`."""
    return interval(estimate).strip("[]").replace(", ", "-")


def stage_estimates(report: Report, stages: TwoStages) -> list[tuple[str, Estimate]]:
    """What the candidates hold, and the main metric of each order of them, worst to best."""
    metric = f"ndcg@{report.main_k}"
    rows = [(f"recall of the candidates, {name}", one) for name, one in stages.recalls.items()]
    orders = [s for s in report.systems if s.kind in ("stage", "bundle") and metric in s.estimates]
    orders.sort(key=lambda system: system.kind == "bundle")
    rows += [(f"{label(metric)}, {system.name}", system.estimates[metric]) for system in orders]
    return [*rows, (f"{label(metric)}, candidates in the best order", stages.oracle)]


def print_report(report: Report, console: Console | None = None) -> None:
    """Tables of the main metrics, counts, verdicts and fingerprint. The full table is in the files.

    Fits the console's width by showing fewer metrics side by side.
    """
    console = console or Console()
    names, equal = main_metrics(report)
    beside = max((console.width - NAME) // CELL, 1)
    console.print(report.title, style="bold")
    for first in range(0, len(names), beside):
        console.print(_table(report, names[first : first + beside]))
    counts = [f"{count:,} {name}" for name, count in report.counts.items() if count]
    console.print("Ranges: 95 % intervals over users. " + ", ".join(counts) + ".", style="dim")
    for sentence in equal:
        console.print(sentence, style="dim")
    for comparison in report.comparisons:
        better = comparison.difference.verdict == "better"
        console.print(comparison.sentence, style="green" if better else "yellow")
    for name, share in report.ceiling_shares().items():
        best = report.ceiling[name]
        console.print(f"{label(name)} reaches {share:.1%} of the best possible, {best:.4f}.")
    for stages in report.two_stages:
        console.print(_stage_sentence(stages))
    for note in report.notes:
        console.print(f"Note: {note}", style="dim")
    console.print(f"Protocol fingerprint {report.fingerprint}: compare only with equal ones.")


def _table(report: Report, names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("system", width=NAME - 1, overflow="fold")
    for name in names:
        table.add_column(label(name), justify="right", width=CELL - 1, no_wrap=True)
    for system in report.systems:
        found = [system.estimates.get(name) for name in names]
        cells = ["" if one is None else f"{shown(one)}\n{span(one)}" for one in found]
        table.add_row(system.name, *cells, style=STYLES[system.kind])
    if any(name in report.ceiling for name in names):
        best = [f"{report.ceiling[name]:.4f}" if name in report.ceiling else "" for name in names]
        table.add_row("best possible", *best, style="cyan")
    return table


def _stage_sentence(stages: TwoStages) -> str:
    total = max(sum(stages.fates.values()), 1)
    told = ", ".join(f"{count / total:.1%} {fate}" for fate, count in stages.fates.items() if count)
    return f"Of the targets: {told}."
