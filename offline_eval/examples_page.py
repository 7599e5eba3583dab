"""Metrics of labelled examples on a terminal, and as a page with the reliability curve."""

from collections.abc import Mapping
from html import escape

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from offline_eval.charts import Series, document, line_chart
from offline_eval.metrics import Bools
from offline_eval.probabilities import Reliability
from offline_eval.significance import Estimate

LABELS: Mapping[str, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log-loss",
    "normalised_entropy": "normalised entropy",
    "ece": "ECE",
    "c_mcc": "C-MCC",
    "c_balanced_accuracy": "C-BAcc",
    "c_f1": "C-F1",
    "aul": "AUL",
}


def print_examples(
    found: Mapping[str, Estimate], labels_N: Bools, console: Console | None = None
) -> None:
    """A row a metric."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("metric", "value", "95 % interval"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, one in found.items():
        note = f" ({one.undefined:,} groups undefined)" if one.undefined else ""
        table.add_row(LABELS[name] + note, f"{one.value:.5f}", f"{one.low:.5f} to {one.high:.5f}")
    console.print(table)
    console.print(f"{len(labels_N):,} examples, {labels_N.mean():.2%} positive.", style="dim")


def examples_page(
    title: str, found: Mapping[str, Estimate], curve: Reliability, labels_N: Bools
) -> str:
    """One HTML file: figures with intervals, predicted against observed, and where the mass is."""
    return document(title, [*_figures(title, found, labels_N), *_curve(curve)])


def _figures(title: str, found: Mapping[str, Estimate], labels_N: Bools) -> list[str]:
    parts = [f"<h1>{escape(title)}</h1>", '<div class="tiles">']
    for name, one in found.items():
        parts.append(
            f'<div class="card tile"><span>{LABELS[name]}</span><b>{one.value:.4f}</b>'
            f"<span>[{one.low:.4f}, {one.high:.4f}]</span></div>"
        )
    told = f"{len(labels_N):,} examples, {labels_N.mean():.2%} positive. Brackets: 95 % interval."
    return [*parts, f'</div><p class="legend">{told}</p>']


def _curve(curve: Reliability) -> list[str]:
    filled = curve.counts > 0
    error = 1.96 * np.sqrt(curve.observed * (1 - curve.observed) / np.maximum(curve.counts, 1))
    points = list(
        zip(curve.predicted[filled].tolist(), curve.observed[filled].tolist(), strict=True)
    )
    low, high = np.maximum(curve.observed - error, 0)[filled], (curve.observed + error)[filled]
    series = Series(
        name="observed", kind="bundle", points=points,
        bands=list(zip(low.tolist(), np.minimum(high, 1).tolist(), strict=True)),
    )  # fmt: skip
    parts = ['<div class="charts"><section class="card"><h3>Reliability</h3>']
    parts.append(line_chart([series], x="predicted", y="observed", diagonal=True))
    parts.append(
        '<p class="legend">Dashed: perfectly calibrated. Bars: 95 % of the share observed in a '
        "bin (normal approximation).</p></section>"
    )
    parts.append('<section class="card"><h3>Bins</h3><div class="scroll"><table><tr>')
    parts.append("<th>predicted</th><th>observed</th><th>examples</th></tr>")
    for predicted, observed, count in zip(
        curve.predicted, curve.observed, curve.counts, strict=True
    ):
        if count:
            parts.append(
                f"<tr><td>{predicted:.4f}</td><td>{observed:.4f}</td><td>{count:,}</td></tr>"
            )
    return [*parts, "</table></div></section></div>"]
