"""Descriptions, drift and audits of data: on a terminal, as JSON, and as one HTML page each."""

import json
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from features.audit import Audit
from features.description import Description, Histogram
from features.drift import Drift
from features.errors import InputError

STYLE = (
    "body{font:15px system-ui;margin:2em auto;max-width:60em}td,th{padding:.2em .8em;"
    "text-align:left;vertical-align:top}th{background:#eee}.bar{background:#4a7bb5;height:.9em}"
    ".much{color:#b00020;font-weight:bold}.some{color:#a05a00}"
)
Rows = list[list[str]]
BAR = 40
"""Characters of the longest bar on a terminal."""


def write_page(out: Path, title: str, body: str, content: dict[str, Any]) -> None:
    """Write `.json` or `.html`, by the name; raises InputError for another or an existing file."""
    if out.exists():
        raise InputError(f"{out} exists: choose a new file or delete it")
    if out.suffix == ".json":
        text = json.dumps(content, indent=1, default=str) + "\n"
    elif out.suffix == ".html":
        head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        text = f"<!doctype html>{head}<h1>{escape(title)}</h1>{body}\n"
    else:
        raise InputError(f"{out} is of no known form: name it .html or .json")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.partial")
    temporary.write_text(text)
    temporary.replace(out)


def _html(head: list[str], rows: Rows) -> str:
    top = "".join(f"<th>{escape(h)}" for h in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(c)}" for c in row) for row in rows)
    return f"<table><tr>{top}{lines}</table>"


def _show(console: Console, title: str, head: list[str], rows: Rows) -> None:
    table = Table(title=title, title_justify="left", show_header=bool(head))
    for name in head or [""] * len(rows[0]):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_description(found: Description, out: Path | None) -> None:
    """Print the figures and draw the charts; write them to `out` too where it is given."""
    console = Console()
    body = ""
    for section, figures in found.sections.items():
        rows = [[name, text] for name, text in figures.items()]
        _show(console, section, [], rows)
        body += f"<h2>{escape(section)}</h2>" + _html(["", ""], rows)
    for chart in found.charts:
        console.print(chart.title)
        for label, count in zip(chart.labels, chart.counts, strict=True):
            bar = "█" * round(BAR * count / max(*chart.counts, 1))
            console.print(f"  {label:>15} {bar} {count:,}", highlight=False)
        body += _chart(chart)
    if out is not None:
        write_page(out, f"Dataset {found.name}", body, found.as_json())


def _chart(chart: Histogram) -> str:
    most = max(*chart.counts, 1)
    rows = "".join(
        f'<tr><td>{escape(label)}<td style="width:30em"><div class=bar '
        f'style="width:{100 * count / most:.1f}%"></div><td>{count:,}'
        for label, count in zip(chart.labels, chart.counts, strict=True)
    )
    return f"<h2>{escape(chart.title)}</h2><table>{rows}</table>"


def show_drift(found: Drift, out: Path | None) -> None:
    """Print what has changed, the most first; write it to `out` too where it is given."""
    console = Console()
    ordered = sorted(found.columns, key=lambda column: -column.psi)
    head = ["column", "change", "PSI", "new values", "null before", "null now"]
    rows = [
        [
            c.name,
            c.verdict,
            f"{c.psi:.3f}",
            f"{c.new_share:.1%}" + (f": {', '.join(c.new_values[:3])}" if c.new_values else ""),
            f"{c.null_before:.1%}",
            f"{c.null_now:.1%}",
        ]
        for c in ordered
    ]
    _show(console, f"{found.before} -> {found.now}", head, rows)
    schema = [[name, *pair] for name, pair in found.schema.items()]
    if schema:
        _show(console, "schema", ["", "before", "now"], schema)
    body = "<h2>Columns</h2>" + _html(head, rows)
    body += "<h2>Schema</h2>" + _html(["", "before", "now"], schema)
    if out is not None:
        write_page(out, f"Drift: {found.before} to {found.now}", body, found.as_json())


def show_audit(found: Audit, out: Path | None) -> None:
    """Print the features that know the future, with rows; write them to `out` too where given."""
    console = Console()
    console.print(
        f"{len(found.features)} features, the future cut off at {found.cuts} moments: "
        f"{len(found.leaks)} know the future"
    )
    body = f"<p>{len(found.features)} features, {found.cuts} cuts.</p>"
    for leak in found.leaks:
        head = list(leak.examples[0])
        rows = [[row[name] for name in head] for row in leak.examples]
        title = f"{leak.feature}: {leak.changed:,} of {leak.compared:,} values change"
        _show(console, title, head, rows)
        body += f"<h2>{escape(title)}</h2>" + _html(head, rows)
    if out is not None:
        write_page(out, "Leak audit", body, found.as_json())
