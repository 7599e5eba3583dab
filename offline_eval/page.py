"""A report as one HTML file that needs no network; only the search among users needs its script.

Follows the reader's light or dark setting; one column on a telephone, several on a desktop.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from offline_eval.charts import (
    Series,
    axis_of,
    document,
    legend,
    line_chart,
    row,
    told_apart,
)
from offline_eval.explorer import SCRIPT, examples
from offline_eval.markdown import metric_families
from offline_eval.report import MEANINGS, Report, label
from offline_eval.significance import Estimate, single_figure
from offline_eval.table import interval, main_metrics, shown, stage_estimates

LETTERS = "systems that share a letter cannot be told apart (paired tests, Holm, 5 %)."


def page(report: Report) -> str:
    """The whole file."""
    parts = [
        *_head(report),
        *_charts(report),
        *_curves(report),
        *_two_stages(report),
        *_cuts(report),
        *_tables(report),
        *examples(report.examples),
        *_protocol(report),
    ]
    return document(report.title, parts, script=SCRIPT)


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
    yield "<h2>Systems side by side</h2>"
    if any(system.letters for system in report.systems):
        yield f'<p class="legend">{escape(label(f"ndcg@{report.main_k}"))}: {LETTERS}</p>'
    yield '<div class="charts">'
    for name in main_metrics(report)[0]:
        found = {
            system.name: system.estimates[name]
            for system in report.systems
            if name in system.estimates
        }
        low, high = axis_of(name, found.values(), report.ceiling.get(name, 0.0))
        yield f'<section class="card"><h3>{escape(label(name))}</h3>'
        for system in report.systems:
            if system.name in found:
                named = system.name
                if name == f"ndcg@{report.main_k}" and system.letters:
                    named += f" ({system.letters})"
                best = report.ceiling.get(name)
                yield row(named, system.kind, found[system.name], (low, high), best)
        yield f'<div class="axis"><span>{low:.4g}</span><span>{high:.4g}</span></div></section>'
    yield "</div>"


def _curves(report: Report) -> Iterable[str]:
    """Metrics over the cut-off, and learning curves where the run is known."""
    rivals = dict.fromkeys([report.bundle.name, *(one.second for one in report.comparisons)])
    kinds = {system.name: system.kind for system in report.systems}
    if len(report.ks) > 1:
        yield '<h2>Over the cut-off</h2><div class="charts">'
        for family in ("hit_rate", "ndcg", "recall"):
            series = [_over_ks(report, name, kinds[name], family) for name in rivals]
            series = told_apart([one for one in series if one.points])
            yield f'<section class="card"><h3>{escape(label(family))}@k</h3>'
            yield line_chart(series, x="k", y=label(family)) + legend(series) + "</section>"
        yield "</div>"
    if report.learning:
        yield '<h2>Learning curves</h2><div class="charts">'
        for name, points in report.learning.items():
            curve = Series(name=name, kind="bundle", points=points)
            yield f'<section class="card"><h3>{escape(name)}</h3>'
            yield line_chart([curve], x="step", y=name, from_zero=False) + "</section>"
        yield "</div>"


def _over_ks(report: Report, name: str, kind: str, family: str) -> Series:
    estimates = next(system.estimates for system in report.systems if system.name == name)
    found = [(k, estimates[f"{family}@{k}"]) for k in report.ks if f"{family}@{k}" in estimates]
    return Series(
        name=name,
        kind=kind,
        points=[(float(k), one.value) for k, one in found],
        bands=[(one.low, one.high) for _, one in found],
    )


def _two_stages(report: Report) -> Iterable[str]:
    """What the candidates allow, and where targets were lost."""
    for stages in report.two_stages:
        yield '<h2>Candidates and ranker</h2><div class="charts"><section class="card">'
        yield "<h3>What each stage reaches</h3>"
        for name, found in stage_estimates(report, stages):
            kind = "bundle" if name.endswith(f", {report.bundle.name}") else "stage"
            yield row(name, kind, found, (0.0, 1.0))
        yield '<div class="axis"><span>0</span><span>1</span></div></section>'
        total = max(sum(stages.fates.values()), 1)
        yield '<section class="card"><h3>What became of the targets</h3>'
        for fate, count in stages.fates.items():
            share = single_figure(count / total)
            kind = "bundle" if fate == "listed" else "baseline"
            yield row(fate, kind, share, (0.0, 1.0))
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
        low, high = axis_of(metric, [one.estimate for one in found if one.metric == metric], 0.0)
        yield f'<section class="card"><h3>By {escape(cut)}</h3>'
        for group, estimates in groups.items():
            users = estimates[0].estimate.defined
            counts = f"{users:,} users, {estimates[0].targets:,} targets"
            yield f'<p class="group">{escape(group)} <span class="soft">{counts}</span></p>'
            for one in estimates:
                if one.metric == metric and one.system in systems:
                    yield row(one.system, systems[one.system].kind, one.estimate, (low, high))
        yield f'<div class="axis"><span>{low:.4g}</span><span>{high:.4g}</span></div></section>'
    yield "</div>"


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
