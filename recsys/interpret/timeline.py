"""Which events speak for and against an outcome, drawn on the person's timeline.

Input x gradient (Shrikumar et al., arXiv:1605.01713) on the summed embedding of each position, as
life2vec does: sum over the width, divided by the norm over the document. An event's figure is the
sum over its tokens. Positive: towards the outcome. It is a first-order account, not a cause.
"""

import html
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.life_layout import MICROSECONDS, SEP
from recsys.interpret.opened import OpenedRun

WIDTH, HEIGHT, MARGIN = 1000, 320, 40
SHOWN = 15
"""Events in the table below the drawing."""


@dataclass(frozen=True, slots=True)
class EventShare:
    """What one event (or the background, number 0) contributes."""

    number: int
    day: float
    """First clock of the dataset."""
    attribution: float
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One person's prediction, event by event."""

    outcome: str
    probability: float
    """Before calibration."""
    events: tuple[EventShare, ...]


def attribute(opened: OpenedRun, rows: NDArray[np.int64], column: int) -> NDArray[np.float32]:
    """Attribution of every position, (B, L), norm 1 a document; 0 at padding."""
    batch = opened.batch(rows)
    x_BLD = opened.model.embedding(batch).detach().requires_grad_()
    score = opened.log_odds(opened.model.person(x_BLD, batch.real), column).sum()
    (gradient_BLD,) = torch.autograd.grad(score, x_BLD)
    share_BL = (x_BLD * gradient_BLD).sum(-1).detach() * batch.real
    return (share_BL / share_BL.norm(dim=1, keepdim=True).clamp(min=1e-12)).numpy()


def explain(opened: OpenedRun, row: int, column: int) -> Explanation:
    """The prediction for one case, event by event."""
    rows = np.array([row])
    share_L, batch = attribute(opened, rows, column)[0], opened.batch(rows)
    tokens, days = batch.tokens[0].numpy(), batch.days[0].numpy()
    ended = np.concatenate([[0], np.cumsum(tokens == SEP)[:-1]])  # event number of each position
    names, events = opened.data.schema.token_names, []
    for number in range(int(ended[-1]) + 1):
        places = np.flatnonzero(ended == number)
        told = tuple((names[tokens[p]], float(share_L[p])) for p in places if tokens[p] != SEP)
        day = float(days[places[-1]]) if number else 0.0
        events.append(EventShare(number, day, float(share_L[places].sum()), told))
    with torch.inference_mode():
        probability = float(opened.model.predict(batch)[0][0, column])
    return Explanation(opened.column_name(column), probability, tuple(events))


def write_timeline(run: Path, lives: Path, user: str, outcome: str, out: Path) -> Explanation:
    """Explain a person's last case as an HTML page at `out`. Raises InputError."""
    opened = OpenedRun.open(run, lives)
    row = opened.case_of(user)
    found = explain(opened, row, opened.column(outcome))
    schema = opened.data.schema
    origin = schema.origin
    if origin is None:
        start = int(opened.data.users["start"][opened.data.cases["user"][row]])
        cut = int(opened.data.cases["cut"][row])
        origin = int(opened.data.timestamps[start]) if cut > start else schema.default_at

    def when(day: float) -> str:
        seconds = origin / MICROSECONDS + (day - 1) * schema.clock_seconds
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")

    times = {share.number: when(share.day) if share.number else "background"
             for share in found.events}  # fmt: skip
    out.write_text(page(found, user, times))
    return found


def page(found: Explanation, user: str, times: dict[int, str]) -> str:
    """The drawing and a table of the strongest events."""
    rest = [event for event in found.events if event.number]
    first = min((event.day for event in rest), default=0.0)
    span = max((event.day for event in rest), default=1.0) - first or 1.0
    top = max((abs(event.attribution) for event in found.events), default=0.0) or 1.0
    middle = HEIGHT // 2
    bars = []
    for event in rest:
        x = MARGIN + (event.day - first) / span * (WIDTH - 2 * MARGIN)
        high = abs(event.attribution) / top * (middle - MARGIN)
        y = middle - high if event.attribution > 0 else middle
        colour = "#c33" if event.attribution > 0 else "#36c"
        told = html.escape(_told(event, times))
        bars.append(
            f"<rect x='{x - 2:.1f}' y='{y:.1f}' width='4' height='{max(high, 1):.1f}' "
            f"fill='{colour}' opacity='.75'><title>{told}</title></rect>"
        )
    strongest = sorted(found.events, key=lambda event: -abs(event.attribution))[:SHOWN]
    rows = "".join(
        f"<tr><td>{times[event.number]}<td>{event.attribution:+.3f}<td>"
        + ", ".join(f"{html.escape(name)} ({share:+.3f})" for name, share in event.tokens)
        for event in strongest
    )
    title = f"{html.escape(found.outcome)} of {html.escape(user)}: {found.probability:.3f}"
    dated = [times[event.number] for event in rest] or ["", ""]
    return (
        f"<!doctype html><meta charset='utf-8'><title>{title}</title>"
        "<style>body{font:15px sans-serif;max-width:66em;margin:2em auto}"
        "td{padding:.2em .8em;border-bottom:1px solid #ddd}</style>"
        f"<h1>{title}</h1><p>Probability before calibration. Red speaks for the outcome, blue "
        "against it; hover for the event. Input x gradient, norm 1 over the document: a "
        "first-order account of this model, not a cause.</p>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='100%' role='img'>"
        f"<line x1='{MARGIN}' y1='{middle}' x2='{WIDTH - MARGIN}' y2='{middle}' stroke='#888'/>"
        f"<text x='{MARGIN}' y='{HEIGHT - 8}' font-size='13'>{dated[0]}</text>"
        f"<text x='{WIDTH - MARGIN}' y='{HEIGHT - 8}' font-size='13' text-anchor='end'>{dated[-1]}"
        f"</text>{''.join(bars)}</svg><table><tr><th>when<th>share<th>tokens{rows}</table>\n"
    )


def _told(event: EventShare, times: dict[int, str]) -> str:
    tokens = ", ".join(name for name, _ in event.tokens)
    return f"{times[event.number]}: {tokens} ({event.attribution:+.3f})"
