"""A report as one HTML file that needs no network and no script: charts are styled boxes.

Follows the reader's light or dark setting; one column on a telephone, several on a desktop.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from offline_eval.markdown import metric_families
from offline_eval.report import MEANINGS, Report, System, label
from offline_eval.significance import Estimate, single_figure
from offline_eval.table import interval, main_metrics, shown, stage_estimates


def page(report: Report) -> str:
    """The whole file."""
    style = files("offline_eval").joinpath("report.css").read_text()
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title><style>{style}</style></head><body><main>",
        *_head(report),
        *_charts(report),
        *_two_stages(report),
        *_cuts(report),
        *_tables(report),
        *_examples(report),
        *_protocol(report),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _head(report: Report) -> Iterable[str]:
    yield f"<h1>{escape(report.title)}</h1>"
    yield f'<p class="soft">Protocol fingerprint <code>{report.fingerprint}</code></p>'
    for comparison in report.comparisons:
        kind = "better" if comparison.difference.verdict == "better" else "other"
        yield f'<p class="verdict {kind}">{escape(comparison.sentence)}</p>'
    names, equal = main_metrics(report)
    yield '<div class="tiles">'
    shares = report.ceiling_shares()
    for name in names:
        if (found := report.bundle.estimates.get(name)) is not None:
            yield f'<div class="card tile"><span>{escape(label(name))}</span><b>{shown(found)}</b>'
            yield f"<span>{interval(found)}</span>"
            if name in shares:
                yield f"<span>{shares[name]:.1%} of the best possible</span>"
            yield "</div>"
    yield "</div>"
    yield f'<p class="legend">{escape(report.bundle.name)}. Brackets and bars: 95 % interval over '
    yield "users." + "".join(f" {escape(sentence)}" for sentence in equal)
    if report.ceiling:
        yield ' <span class="best">Dashed line: the best any model can reach on this data.</span>'
    yield "</p>"
    yield from (f'<p class="legend">Note: {escape(note)}</p>' for note in report.notes)


def _charts(report: Report) -> Iterable[str]:
    yield '<h2>Systems side by side</h2><div class="charts">'
    for name in main_metrics(report)[0]:
        found = {
            system.name: system.estimates[name]
            for system in report.systems
            if name in system.estimates
        }
        low, high = _axis(name, found.values(), report.ceiling.get(name, 0.0))
        yield f'<section class="card"><h3>{escape(label(name))}</h3>'
        for system in report.systems:
            if system.name in found:
                yield _row(system, found[system.name], (low, high), report.ceiling.get(name))
        yield f'<div class="axis"><span>{low:.4g}</span><span>{high:.4g}</span></div></section>'
    yield "</div>"


def _two_stages(report: Report) -> Iterable[str]:
    """What the candidates allow, and where targets were lost."""
    for stages in report.two_stages:
        yield '<h2>Candidates and ranker</h2><div class="charts"><section class="card">'
        yield "<h3>What each stage reaches</h3>"
        for name, found in stage_estimates(report, stages):
            kind = "bundle" if name.endswith(f", {report.bundle.name}") else "stage"
            yield _row(System(name=name, kind=kind, estimates={}), found, (0.0, 1.0), None)
        yield '<div class="axis"><span>0</span><span>1</span></div></section>'
        total = max(sum(stages.fates.values()), 1)
        yield '<section class="card"><h3>What became of the targets</h3>'
        for fate, count in stages.fates.items():
            share = single_figure(count / total)
            kind = "bundle" if fate == "listed" else "baseline"
            yield _row(System(name=fate, kind=kind, estimates={}), share, (0.0, 1.0), None)
        yield '<div class="axis"><span>0</span><span>1</span></div></section></div>'


def _cuts(report: Report) -> Iterable[str]:
    """The bundle and its rivals on each group of targets."""
    if not report.cuts:
        return
    metric = f"ndcg@{report.main_k}"
    rivals = {comparison.second for comparison in report.comparisons} | {report.bundle.name}
    systems = {system.name: system for system in report.systems if system.name in rivals}
    yield f'<h2>{escape(label(metric))} on parts of the targets</h2><div class="charts">'
    for cut, groups in report.cut_groups().items():
        found = [one for group in groups.values() for one in group]
        low, high = _axis(metric, [one.estimate for one in found if one.metric == metric], 0.0)
        yield f'<section class="card"><h3>By {escape(cut)}</h3>'
        for group, estimates in groups.items():
            users = estimates[0].estimate.defined
            yield f'<p class="group">{escape(group)} <span class="soft">{users:,} users</span></p>'
            for one in estimates:
                if one.metric == metric and one.system in systems:
                    yield _row(systems[one.system], one.estimate, (low, high), None)
        yield f'<div class="axis"><span>{low:.4g}</span><span>{high:.4g}</span></div></section>'
    yield "</div>"


def _axis(name: str, found: Iterable[Estimate], best: float) -> tuple[float, float]:
    """From 0, so that lengths are honest; AUC from chance, where its scale begins."""
    estimates = [one for one in found if not math.isnan(one.low)]
    top = max([best, *(one.high for one in estimates), 1e-9])
    if name != "auc":
        return 0.0, float(f"{top * 1.05:.2g}") if top * 1.05 < 1 else 1.0
    return min([0.5, *(one.low for one in estimates)]), 1.0


def _row(system: System, found: Estimate, axis: tuple[float, float], best: float | None) -> str:
    low, high = axis

    def at(value: float) -> float:
        return min(max(100 * (value - low) / (high - low), 0), 100)

    marks = ""
    if best is not None:
        marks += f'<i class="best" style="left:{at(best):.2f}%"></i>'
    if not math.isnan(found.value):
        if not math.isnan(found.low):
            left, right = at(found.low), at(found.high)
            marks += f'<i class="range" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>'
        marks += f'<i class="dot" style="left:{at(found.value):.2f}%"></i>'
    told = escape(f"{system.name}: {shown(found)} {interval(found)}", quote=True)
    return (
        f'<div class="row {system.kind}" role="img" aria-label="{told}" title="{told}">'
        f'<span class="name">{escape(system.name)}</span><span class="track">{marks}</span>'
        f'<span class="value">{shown(found)}</span></div>'
    )


def _tables(report: Report) -> Iterable[str]:
    yield '<h2>All figures</h2><div class="tables">'
    for family, names in metric_families(report.metrics).items():
        yield f'<section class="card"><h3>{escape(label(family))}</h3>'
        yield f'<p class="legend">{escape(MEANINGS.get(family, ""))}</p><div class="scroll"><table>'
        yield _cells("th", ["system", *(label(name) for name in names)])
        for system in report.systems:
            cells = [_cell(system.estimates.get(name)) for name in names]
            yield f'<tr class="{system.kind}"><td>{escape(system.name)}</td>{"".join(cells)}</tr>'
        if best := _best(report.ceiling, names):
            yield f'<tr class="best"><td>best possible</td>{best}</tr>'
        yield "</table></div></section>"
    yield "</div>"


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "<td></td>"
    undefined = f"<small>{found.undefined:,} users undefined</small>" if found.undefined else ""
    return f"<td>{shown(found)}<small>{interval(found)}</small>{undefined}</td>"


def _best(ceiling: Mapping[str, float], names: Sequence[str]) -> str:
    if not any(name in ceiling for name in names):
        return ""
    return "".join(
        f"<td>{ceiling[name]:.4f}</td>" if name in ceiling else "<td></td>" for name in names
    )


def _examples(report: Report) -> Iterable[str]:
    """Single users, folded: history, recommendations with the hits marked, targets."""
    if report.examples:
        yield "<h2>Single users</h2>"
    for one in report.examples:
        hits = sum(one.hits)
        told = f"{one.history_length:,} events, {hits} of {len(one.listed)} recommendations right"
        yield f'<details class="card"><summary>{escape(one.user)} '
        yield f'<span class="soft">{told}</span></summary><div class="charts">'
        parts = {
            "History, latest last": [(item, False) for item in one.history],
            "Recommended": list(zip(one.listed, one.hits, strict=True)),
            "Targets": [(item, False) for item in one.targets],
        }
        for name, items in parts.items():
            yield f"<section><h3>{name}</h3><ol>"
            yield from (
                f'<li class="hit">{escape(item)} \u2713</li>' if hit else f"<li>{escape(item)}</li>"
                for item, hit in items
            )
            yield "</ol></section>"
        yield "</div></details>"


def _protocol(report: Report) -> Iterable[str]:
    yield '<h2>What was measured</h2><div class="charts">'
    yield '<section class="card"><h3>Counts</h3><table>'
    yield from (_cells("td", [name, f"{count:,}"]) for name, count in report.counts.items())
    yield '</table></section><section class="card"><h3>Protocol</h3><table>'
    for part, value in report.protocol.items():
        yield f'<tr><td>{escape(part)}</td><td class="part"><code>{_told(value)}</code></td></tr>'
    yield "</table></section></div>"


def _told(value: Any) -> str:
    return escape(value if isinstance(value, str) else str(value))


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"
