"""A report as Markdown: every metric at every cut-off, with intervals."""

from collections.abc import Mapping, Sequence

from offline_eval.report import MEANINGS, CutEstimate, Report, TwoStages, label
from offline_eval.table import interval, shown, stage_estimates


def metric_families(names: Sequence[str]) -> dict[str, list[str]]:
    """Metric names grouped by what stands before the @, in their order.

    >>> metric_families(["ndcg@1", "auc", "ndcg@5"])
    {'ndcg': ['ndcg@1', 'ndcg@5'], 'auc': ['auc']}
    """
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("@")[0], []).append(name)
    return families


def markdown(report: Report) -> str:
    """The whole report, one table a metric: systems down, cut-offs across."""
    lines = [f"# {report.title}", "", f"Protocol fingerprint: `{report.fingerprint}`", ""]
    lines += [f"- {comparison.sentence}" for comparison in report.comparisons]
    for name, share in report.ceiling_shares().items():
        best = report.ceiling[name]
        lines.append(f"- {label(name)} reaches {share:.1%} of the best possible, {best:.4f}.")
    lines += [f"- Note: {note}" for note in report.notes]
    for family, names in metric_families(report.metrics).items():
        lines += ["", f"## {label(family)}", "", *_rows(report, names)]
        if family in MEANINGS:
            lines += ["", MEANINGS[family]]
    lines += ["", "Brackets: 95 % interval over users. A dash: undefined for every user.", ""]
    for stages in report.two_stages:
        lines += ["## Candidates and ranker", "", *_stage_rows(report, stages), ""]
    for cut, groups in report.cut_groups().items():
        lines += [f"## By {cut}", "", *_cut_rows(report, groups), ""]
    lines += ["## Counts", "", *[f"- {name}: {count:,}" for name, count in report.counts.items()]]
    lines += ["", "## Protocol", ""]
    lines += [f"- {part}: `{value}`" for part, value in report.protocol.items()]
    return "\n".join(lines) + "\n"


def _rows(report: Report, names: Sequence[str]) -> list[str]:
    head = "| system | " + " | ".join(label(name) for name in names) + " |"
    rows = [head, "|---|" + "---|" * len(names)]
    for system in report.systems:
        found = [system.estimates.get(name) for name in names]
        cells = ["" if one is None else f"{shown(one)} {interval(one)}" for one in found]
        rows.append(f"| {system.name} | " + " | ".join(cells) + " |")
    if any(name in report.ceiling for name in names):
        best = [f"{report.ceiling[name]:.4f}" if name in report.ceiling else "" for name in names]
        rows.append("| best possible | " + " | ".join(best) + " |")
    return rows


def _cut_rows(report: Report, groups: Mapping[str, Sequence[CutEstimate]]) -> list[str]:
    """One row a group, system and metric would be long: the main metric only."""
    metric = f"ndcg@{report.main_k}"
    names = [system.name for system in report.systems]
    rows = [f"| {label(metric)}: group | users | " + " | ".join(names) + " |"]
    rows.append("|---|---|" + "---|" * len(names))
    for group, found in groups.items():
        by_system = {one.system: one.estimate for one in found if one.metric == metric}
        cells = [f"{shown(by_system[name])} {interval(by_system[name])}" for name in names]
        rows.append(f"| {group} | {found[0].estimate.defined:,} | " + " | ".join(cells) + " |")
    return rows


def _stage_rows(report: Report, stages: TwoStages) -> list[str]:
    total = max(sum(stages.fates.values()), 1)
    rows = [f"- targets {fate}: {n:,} ({n / total:.1%})" for fate, n in stages.fates.items()]
    rows += ["", "| stage | value |", "|---|---|"]
    for name, found in stage_estimates(report, stages):
        rows.append(f"| {name} | {shown(found)} {interval(found)} |")
    return rows
