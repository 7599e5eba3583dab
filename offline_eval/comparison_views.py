"""A comparison of runs on a terminal, as Markdown and as a page."""

import math
from collections.abc import Iterable
from html import escape

from rich import box
from rich.console import Console
from rich.table import Table

from offline_eval.charts import axis_of, document, row
from offline_eval.compare import Entry, RunComparison
from offline_eval.report import Comparison, label
from offline_eval.table import interval, shown

SHARED = "Systems that share a letter cannot be told apart (paired tests, Holm, 5 %)."


def print_comparison(found: RunComparison, console: Console | None = None) -> None:
    """Systems best first, then the tests in words."""
    console = console or Console()
    metrics = found.metrics[: max((console.width - 26) // 13, 1)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("system", width=18, overflow="fold")
    table.add_column("", width=5)
    for name in metrics:
        table.add_column(label(name), justify="right", width=12, no_wrap=True)
    for entry in found.entries:
        cells = [
            f"{shown(entry.estimates[name])}\n{interval(entry.estimates[name]).strip('[]')}"
            for name in metrics
        ]
        style = "dim" if entry.kind == "baseline" else "bold"
        table.add_row(named(entry), entry.letters, *cells, style=style)
    console.print(table)
    about = f"Letters and verdicts: {label(found.metric)}. "
    console.print(f"{about}{SHARED} {found.users:,} users.", style="dim")
    if len(metrics) < len(found.metrics):
        hidden = ", ".join(map(label, found.metrics[len(metrics) :]))
        console.print(f"Not shown for want of width: {hidden}; --out has them.", style="dim")
    for one in found.comparisons:
        if one.metric == found.metric:
            better = one.p_holm <= 0.05 and one.difference.value > 0
            console.print(verdict(one), style="green" if better else "yellow")
    for part in found.differing:
        console.print(f"CAUTION, the protocols differ in {part}", style="red")
    console.print(f"Protocol fingerprint {found.fingerprint}.")


def named(entry: Entry) -> str:
    """The name, with the number of seeds where there are several."""
    return f"{entry.name} ({entry.seeds} seeds)" if entry.seeds > 1 else entry.name


def verdict(one: Comparison) -> str:
    """Which is better after correction, in words; the gate says when popularity is not beaten."""
    found, name = one.difference, label(one.metric)
    numbers = (
        f"{found.value:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}, "
        f"p = {one.p_holm:.2g} with Holm"
    )
    if not math.isnan(one.p_holm) and one.p_holm <= 0.05:
        told = "beats" if found.value > 0 else "is WORSE than"
        return f"{one.first} {told} {one.second} on {name}: {numbers}."
    return (
        f"{one.first} does NOT beat {one.second} on {name}: {numbers}. With {found.users:,} users "
        f"a true difference of {one.detectable:.4f} would usually show."
    )


def comparison_markdown(found: RunComparison) -> str:
    """The table and every test."""
    lines = [f"# {found.title}", "", f"Protocol fingerprint `{found.fingerprint}`, "
             f"{found.users:,} users.", ""]  # fmt: skip
    names = found.metrics
    lines.append("| system | | " + " | ".join(label(name) for name in names) + " |")
    lines.append("|---|---|" + "---|" * len(names))
    for entry in found.entries:
        cells = [f"{shown(entry.estimates[n])} {interval(entry.estimates[n])}" for n in names]
        name = named(entry) if entry.kind == "baseline" else f"**{named(entry)}**"
        lines.append(f"| {name} | {entry.letters} | " + " | ".join(cells) + " |")
    lines += ["", f"Brackets: 95 % interval. Letters: {label(found.metric)}. {SHARED}", ""]
    lines += [f"- {verdict(one)}" for one in found.comparisons]
    lines += [f"- CAUTION, the protocols differ in {part}" for part in found.differing]
    spreads = [
        f"- {entry.name}: standard deviation of {label(found.metric)} over {entry.seeds} seeds "
        f"{entry.spread[found.metric]:.4f}"
        for entry in found.entries
        if entry.seeds > 1
    ]
    return "\n".join([*lines, *spreads]) + "\n"


def comparison_page(found: RunComparison) -> str:
    """One HTML file, no network."""
    return document(found.title, [*_head(found), *_charts(found), *_tests(found)])


def _head(found: RunComparison) -> Iterable[str]:
    yield f"<h1>{escape(found.title)}</h1>"
    told = f"Protocol fingerprint <code>{found.fingerprint}</code>, {found.users:,} users"
    yield f'<p class="soft">{told}</p>'
    for one in found.comparisons:
        if one.metric == found.metric:
            better = one.p_holm <= 0.05 and one.difference.value > 0
            kind = "better" if better else "other"
            yield f'<p class="verdict {kind}">{escape(verdict(one))}</p>'
    for part in found.differing:
        yield f'<p class="verdict other">CAUTION, the protocols differ in {escape(part)}</p>'


def _charts(found: RunComparison) -> Iterable[str]:
    yield f'<h2>Systems side by side</h2><p class="legend">Letters: {escape(label(found.metric))}. '
    yield f'{SHARED}</p><div class="charts">'
    for name in found.metrics:
        low, high = axis_of(name, [entry.estimates[name] for entry in found.entries], 0.0)
        yield f'<section class="card"><h3>{escape(label(name))}</h3>'
        for entry in found.entries:
            told = f"{named(entry)} {entry.letters}" if name == found.metric else named(entry)
            yield row(told, entry.kind, entry.estimates[name], (low, high))
        yield f'<div class="axis"><span>{low:.4g}</span><span>{high:.4g}</span></div></section>'
    yield "</div>"


def _tests(found: RunComparison) -> Iterable[str]:
    yield '<h2>Every test</h2><section class="card"><div class="scroll"><table><tr>'
    heads = (
        "first",
        "second",
        "metric",
        "difference",
        "95 % interval",
        "p",
        "p, Holm",
        "detectable",
    )
    yield "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
    for one in found.comparisons:
        d = one.difference
        cells = (
            escape(one.first), escape(one.second), escape(label(one.metric)), f"{d.value:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}", f"{one.p:.2g}", f"{one.p_holm:.2g}",
            f"{one.detectable:.4f}",
        )  # fmt: skip
        kind = "sure" if one.p_holm <= 0.05 else "unsure"
        yield f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table></div></section>"
