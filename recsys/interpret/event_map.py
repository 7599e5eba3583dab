"""Where tokens stand to each other: a map of the table, and whether seeds agree on it.

Distances are cosines between centred token vectors. The map is t-SNE, which keeps neighbourhoods
and nothing else; the list of nearest tokens beside it is of the full space. Robustness (as in
life2vec): Spearman correlation of the distances of all pairs between two runs, against permuted
tokens, corrected over the pairs of runs by Benjamini and Hochberg.
"""

import html
import json
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.manifold import TSNE

from features.errors import InputError
from features.life_layout import GENERAL
from recsys.interpret.opened import OpenedRun

SIZE, MARGIN, NEAREST = 900, 30, 5
MIN_TOKENS = 4
COLOURS = ("#c33", "#36c", "#2a6", "#a3a", "#d80", "#088", "#777", "#06c")
Floats = NDArray[np.float64]


def unit_vectors(opened: OpenedRun) -> Floats:
    """Centred vectors of all tokens but the general ones, of length 1, (V, D)."""
    table_VD = opened.model.embedding.token.centred().numpy()[len(GENERAL) :].astype(np.float64)
    if len(table_VD) < MIN_TOKENS:
        raise InputError(f"{len(table_VD)} tokens are too few for a map")
    return table_VD / np.linalg.norm(table_VD, axis=1, keepdims=True).clip(1e-12)


def write_map(run: Path, lives: Path, out: Path, *, seed: int = 0) -> int:
    """Draw the tokens as an HTML page at `out`; returns how many. Raises InputError."""
    opened = OpenedRun.open(run, lives)
    unit_VD = unit_vectors(opened)
    names = opened.data.schema.token_names[len(GENERAL) :]
    perplexity = min(20.0, (len(unit_VD) - 1) / 3)
    flat = TSNE(
        perplexity=perplexity, metric="cosine", init="random", random_state=seed
    ).fit_transform(unit_VD)
    flat = (flat - flat.min(0)) / (flat.max(0) - flat.min(0)).clip(1e-12)
    near = np.argsort(-(unit_VD @ unit_VD.T), axis=1)[:, 1 : NEAREST + 1]
    fields = [name.split("=")[0].split(" [")[0] for name in names]
    colour = {f: COLOURS[i % len(COLOURS)] for i, f in enumerate(dict.fromkeys(fields))}
    dots = []
    for v, (x, y) in enumerate(MARGIN + flat * (SIZE - 2 * MARGIN)):
        told = html.escape(f"{names[v]}; nearest: " + ", ".join(names[n] for n in near[v]))
        label = html.escape(names[v]) if len(names) <= 120 else ""
        dots.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour[fields[v]]}'>"
            f"<title>{told}</title></circle><text x='{x + 7:.1f}' y='{y + 4:.1f}' "
            f"font-size='10'>{label}</text>"
        )
    rows = "".join(
        f"<tr><td>{html.escape(names[v])}<td>{html.escape(', '.join(names[n] for n in near[v]))}"
        for v in range(len(names))
    )
    out.write_text(
        "<!doctype html><meta charset='utf-8'><title>Map of events</title>"
        "<style>body{font:14px sans-serif;max-width:70em;margin:2em auto}"
        "td{padding:.1em .8em;border-bottom:1px solid #eee}</style><h1>Map of events</h1>"
        "<p>t-SNE of the token table: near is alike, far says nothing. Hover for the nearest "
        f"tokens by cosine; all of them below.</p><svg viewBox='0 0 {SIZE} {SIZE}' width='100%'>"
        f"{''.join(dots)}</svg><table><tr><th>token<th>nearest{rows}</table>\n"
    )
    return len(names)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two runs' distances beside each other."""

    first: str
    second: str
    correlation: float
    """Spearman, over all pairs of tokens."""
    p_value: float
    """Share of permutations that correlate as well, at least 1 / (permutations + 1)."""
    adjusted: float
    """Benjamini and Hochberg (J. R. Stat. Soc. B 1995), over the pairs of runs."""


def agreement(
    first_VD: Floats, second_VD: Floats, permutations: int, seed: int
) -> tuple[float, float]:
    """Spearman correlation of the upper triangles of cosine distances, and its p-value."""
    above = np.triu_indices(len(first_VD), 1)
    ranks = []
    for unit_VD in (first_VD, second_VD):
        rank = rankdata((1 - unit_VD @ unit_VD.T)[above])
        ranks.append((rank - rank.mean()) / rank.std())
    value = float((ranks[0] * ranks[1]).mean())
    square = np.zeros((len(first_VD), len(first_VD)))
    square[above] = ranks[1]
    square += square.T
    draw, better = np.random.default_rng(seed), 1
    for _ in range(permutations):
        order = draw.permutation(len(first_VD))
        permuted = square[np.ix_(order, order)][above]
        better += (ranks[0] * permuted).mean() >= value
    return value, better / (permutations + 1)


def write_robustness(
    runs: list[Path], lives: Path, out: Path, *, permutations: int = 1_000, seed: int = 0
) -> list[Agreement]:
    """Compare every pair of runs on one dataset, as JSON to `out`. Raises InputError."""
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run: at least two seeds are needed to compare")
    tables = [unit_vectors(OpenedRun.open(run, lives)) for run in runs]
    pairs = list(combinations(range(len(runs)), 2))
    found = [agreement(tables[i], tables[j], permutations, seed) for i, j in pairs]
    order = np.argsort([p for _, p in found])
    adjusted, least = np.ones(len(pairs)), 1.0
    for place in range(len(pairs) - 1, -1, -1):
        least = min(least, found[order[place]][1] * len(pairs) / (place + 1))
        adjusted[order[place]] = least
    results = [
        Agreement(str(runs[i]), str(runs[j]), value, p, float(q))
        for (i, j), (value, p), q in zip(pairs, found, adjusted, strict=True)
    ]
    out.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    return results
