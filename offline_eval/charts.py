"""Pieces of a page: rows with intervals as styled boxes, and line charts as inline SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files

from offline_eval.significance import Estimate
from offline_eval.table import interval, shown

WIDTH, HEIGHT = 380, 230
"""Of a line chart, in units that scale with the page."""
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
TOUCHING = 0.14
"""Share of the width that a label of the x axis takes."""


def document(title: str, body: Iterable[str], *, script: str = "") -> str:
    """A whole file: style and script inside, nothing from elsewhere."""
    style = files("offline_eval").joinpath("report.css").read_text()
    code = f"<script>{script}</script>" if script else ""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            *body,
            f"</main>{code}</body></html>\n",
        ]
    )


def axis_of(name: str, found: Iterable[Estimate], best: float) -> tuple[float, float]:
    """From 0, so that lengths are honest; AUC from chance, where its scale begins."""
    estimates = [one for one in found if not math.isnan(one.low)]
    top = max([best, *(one.high for one in estimates), 1e-9])
    if name != "auc":
        return 0.0, float(f"{top * 1.05:.2g}") if top * 1.05 < 1 else max(1.0, math.ceil(top))
    return min([0.5, *(one.low for one in estimates)]), 1.0


def row(
    name: str, kind: str, found: Estimate, axis: tuple[float, float], best: float | None = None
) -> str:
    """A name, its value on an axis with the interval as a bar, and the value in figures."""
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
    told = escape(f"{name}: {shown(found)} {interval(found)}", quote=True)
    return (
        f'<div class="row {kind}" role="img" aria-label="{told}" title="{told}">'
        f'<span class="name">{escape(name)}</span><span class="track">{marks}</span>'
        f'<span class="value">{shown(found)}</span></div>'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    kind: str
    """A class of the style sheet: bundle, stage, baseline."""
    points: Sequence[tuple[float, float]]
    """x and y; nan is left out."""
    bands: Sequence[tuple[float, float]] = ()
    """Low and high of each point, or none."""


def line_chart(
    series: Sequence[Series], *, x: str, y: str, from_zero: bool = True, diagonal: bool = False
) -> str:
    """Lines over a common scale, as SVG that takes the colours of the page.

    x: title under the axis. y: what the heading above says, for tips and screen readers.
    """
    points = [(a, b) for one in series for a, b in one.points if not math.isnan(b)]
    if not points:
        return '<p class="legend">Nothing to draw.</p>'
    edges = [edge for one in series for band in one.bands for edge in band if not math.isnan(edge)]
    xs = _span([a for a, _ in points], from_zero=diagonal)
    ys = _span([b for _, b in points] + edges, from_zero=from_zero or diagonal)
    if diagonal:
        xs = ys = (0.0, max(xs[1], ys[1]))

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * (a - xs[0]) / (xs[1] - xs[0]),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (b - ys[0]) / (ys[1] - ys[0]),
        )

    told = escape(f"{y} over {x}: {', '.join(one.name for one in series)}", quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">']
    parts += _axes(xs, ys, _ticks([a for a, _ in points], xs), x)
    if diagonal:
        (x1, y1), (x2, y2) = place(xs[0], ys[0]), place(xs[1], ys[1])
        parts.append(f'<path class="ideal" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')
    for one in series:
        known = [(a, b) for a, b in one.points if not math.isnan(b)]
        path = "L".join("{:.1f} {:.1f}".format(*place(a, b)) for a, b in known)
        parts.append(f'<g class="{one.kind}"><title>{escape(one.name)}</title><path d="M{path}"/>')
        for (a, b), band in zip(
            one.points, one.bands or [(math.nan, math.nan)] * len(one.points), strict=True
        ):
            if math.isnan(b):
                continue
            px, py = place(a, b)
            if not math.isnan(band[0]):
                (_, y1), (_, y2) = place(a, band[0]), place(a, band[1])
                parts.append(f'<path class="band" d="M{px:.1f} {y1:.1f}V{y2:.1f}"/>')
            tip = escape(f"{one.name}: {x} {a:.4g}, {y} {b:.4g}")
            parts.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6"><title>{tip}</title></circle>'
            )
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _ticks(values: Sequence[float], span: tuple[float, float]) -> list[float]:
    """The values themselves, as far as their labels do not touch."""
    found: list[float] = []
    for value in sorted(set(values)):
        if not found or value - found[-1] >= TOUCHING * (span[1] - span[0]):
            found.append(value)
    return found


def _axes(
    xs: tuple[float, float], ys: tuple[float, float], ticks: Sequence[float], x: str
) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for share in (0.0, 0.5, 1.0):
        level = bottom - share * (bottom - TOP)
        value = ys[0] + share * (ys[1] - ys[0])
        parts.append(f'<path class="grid" d="M{LEFT} {level:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{level + 4:.1f}" class="end">{value:.3g}</text>')
    for value in ticks:
        across = LEFT + (right - LEFT) * (value - xs[0]) / (xs[1] - xs[0])
        told = f"{value:,.4g}"
        parts.append(f'<text x="{across:.1f}" y="{bottom + 14}" class="mid">{told}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 4}" class="mid">{escape(x)}</text>')
    return parts


def _span(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high <= low:
        return low, low + 1.0
    margin = (high - low) * 0.04
    return (low if from_zero else low - margin), high + margin


def legend(series: Sequence[Series]) -> str:
    """Names in the colour of their line."""
    names = [f'<span class="key {one.kind}">{escape(one.name)}</span>' for one in series]
    return f'<p class="legend keys">{"".join(names)}</p>'


def told_apart(series: Sequence[Series]) -> list[Series]:
    """The same lines, dashed from the second of a kind on: colour says only the kind."""
    seen: set[str] = set()
    found = []
    for one in series:
        found.append(replace(one, kind=f"{one.kind} dashed") if one.kind in seen else one)
        seen.add(one.kind)
    return found
