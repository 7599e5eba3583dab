"""A report on a terminal: the main metrics, as many side by side as the width allows."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from offline_eval.report import Report, System, label
from offline_eval.significance import Estimate

STYLES = {"bundle": "bold", "stage": "", "baseline": "dim"}
CELL = 13
"""Columns of a terminal that one metric takes."""
NAME = 22


def main_metrics(report: Report) -> tuple[list[str], list[str]]:
    """Metrics of the short table, and sentences on those left out for being equal to another."""
    at = f"@{report.main_k}"
    names = [name for name in report.metrics if name.endswith(at) or "@" not in name]
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
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]".replace("0.", ".")


def print_report(report: Report, console: Console | None = None) -> None:
    """Tables of the main metrics, counts, verdicts and fingerprint. The full table is in the files.

    Fits the console's width by showing fewer metrics side by side.
    """
    console = console or Console()
    names, equal = main_metrics(report)
    beside = max((console.width - NAME - 2) // (CELL + 2), 1)
    for first in range(0, len(names), beside):
        console.print(_table(report, names[first : first + beside], title=not first))
    counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
    console.print(f"{counts}; fingerprint [bold]{report.fingerprint}[/bold]")
    for sentence in equal:
        console.print(sentence, style="dim")
    for comparison in report.comparisons:
        better = comparison.difference.verdict == "better"
        console.print(comparison.sentence, style="green" if better else "yellow")
    for name, share in report.ceiling_shares().items():
        best = report.ceiling[name]
        console.print(f"{label(name)} reaches {share:.1%} of the best possible, {best:.4f}.")
    for note in report.notes:
        console.print(f"Note: {note}", style="dim")


def _table(report: Report, names: Sequence[str], *, title: bool) -> Table:
    caption = "brackets: 95 % interval over users"
    table = Table(title=report.title if title else None, caption=caption, pad_edge=False)
    table.add_column("system", min_width=NAME - 4, overflow="fold")
    for name in names:
        table.add_column(label(name), justify="right", min_width=CELL - 2, no_wrap=True)
    for system in report.systems:
        found = [system.estimates.get(name) for name in names]
        cells = ["" if one is None else f"{shown(one)}\n{interval(one)}" for one in found]
        table.add_row(system.name, *cells, style=STYLES[system.kind])
    if any(name in report.ceiling for name in names):
        best = [f"{report.ceiling[name]:.4f}" if name in report.ceiling else "" for name in names]
        table.add_row("best possible", *best, style="cyan")
    return table
