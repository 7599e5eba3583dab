"""A map of playlists as one HTML file: near is alike. For looking around, not for measuring.

t-SNE keeps neighbourhoods and nothing else; the neighbours listed beside the map are those of the
full space, by cosine about the mean of the playlists drawn, as `serving.history_source` has it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE

from features.errors import InputError
from recsys.playlists.opened import Opened
from serving.history_source import centred

NEAREST, SONGS = 10, 12
"""Neighbours listed, and songs shown of a playlist."""
COLOURS = ("#3b6fd4", "#d1495b", "#2a9d6f", "#9b5de5", "#d98324", "#178a94", "#b0578d", "#7a8b23")
"""Of the most frequent labels; others share grey."""
OTHER = "other"
CLUSTERS = 8
FEWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """What to draw, and what to say of it."""

    users: Path | None = None
    """Parquet with a row a user_id."""
    label: str = ""
    """Its column to colour by; empty colours by cluster."""
    name: str = ""
    """Its column to call a playlist by; empty: the raw id."""
    most: int = 2_000
    """Playlists drawn, at random where there are more."""
    seed: int = 0


def write_map(run: Path, dataset: Path, out: Path, options: MapOptions) -> int:
    """Draw training and test playlists at `out`; returns how many. Raises InputError."""
    if options.users is None and (options.label or options.name):
        raise InputError("--label and --name are columns of --users: give that file too")
    opened = Opened.open(run, dataset)
    rows = np.union1d(opened.rows("training"), opened.rows("test"))
    draw = np.random.default_rng(options.seed)
    rows = np.sort(draw.permutation(rows)[: options.most])
    if len(rows) < FEWEST:
        raise InputError(f"{len(rows)} playlists are too few for a map: {FEWEST} at least")
    songs = opened.songs(rows, "test")
    vectors_PD = opened.vectors(songs)
    vectors_PD = centred(vectors_PD, vectors_PD.mean(0))
    titles = opened.titles
    told = [[titles[song] for song in one.tolist()] for one in songs]
    names = opened.users(rows)
    if options.users is not None and options.name:
        found = opened.column(options.users, options.name, rows)
        names = [given or raw for given, raw in zip(found, names, strict=True)]
    if options.users is not None and options.label:
        labels = [one or OTHER for one in opened.column(options.users, options.label, rows)]
    else:
        labels = clusters(vectors_PD, told, options.seed)
    content = page_data(project(vectors_PD, options.seed), vectors_PD, names, labels, told)
    title = f"{len(rows):,} playlists by {opened.name}"
    out.write_text(page(title, content))
    return len(rows)


def project(vectors_PD: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Places in the unit square, (P, 2)."""
    perplexity = min(30.0, (len(vectors_PD) - 1) / 3)
    flat = TSNE(
        perplexity=perplexity, metric="cosine", init="random", random_state=seed
    ).fit_transform(vectors_PD)
    low, high = flat.min(0), flat.max(0)
    return ((flat - low) / np.clip(high - low, 1e-12, None)).astype(np.float64)


def clusters(
    vectors_PD: NDArray[np.float32], told: Sequence[Sequence[str]], seed: int
) -> list[str]:
    """A cluster of each playlist, named by the song that most of its playlists hold."""
    count = min(CLUSTERS, len(vectors_PD))
    number_P = KMeans(count, random_state=seed).fit_predict(vectors_PD)
    names = {}
    for cluster in range(count):
        held = Counter(
            song for row in np.flatnonzero(number_P == cluster).tolist() for song in set(told[row])
        )
        most = held.most_common(1)
        names[cluster] = f"{cluster + 1}: {most[0][0]}" if most else f"{cluster + 1}"
    return [names[number] for number in number_P.tolist()]


def page_data(
    places_P2: NDArray[np.float64],
    vectors_PD: NDArray[np.float32],
    names: Sequence[str],
    labels: Sequence[str],
    told: Sequence[Sequence[str]],
) -> dict[str, object]:
    """What the page's script reads; songs of all playlists are stored once."""
    common = [label for label, _ in Counter(labels).most_common() if label != OTHER]
    shown = common[: len(COLOURS)]
    if len(shown) < len(set(labels)):
        shown = [*shown, OTHER]
    number = {label: i for i, label in enumerate(shown)}
    words = sorted({song for one in told for song in one})
    place = {song: i for i, song in enumerate(words)}
    near, cosine = neighbours(vectors_PD)
    return {
        "labels": shown,
        "colours": [*COLOURS[: len(shown) - (OTHER in number)], *["#888"] * (OTHER in number)],
        "songs": words,
        "playlists": [
            {
                "x": round(float(places_P2[i, 0]), 4),
                "y": round(float(places_P2[i, 1]), 4),
                "name": names[i],
                "label": number.get(labels[i], len(shown) - 1),
                "told": labels[i],
                "songs": [place[song] for song in told[i]],
                "near": near[i].tolist(),
                "cosine": [round(float(c), 3) for c in cosine[i]],
            }
            for i in range(len(names))
        ],
    }


def neighbours(vectors_PD: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest others of each, (P, k), and their cosines."""
    cosine_PP = vectors_PD @ vectors_PD.T
    np.fill_diagonal(cosine_PP, -np.inf)
    k = min(NEAREST, len(vectors_PD) - 1)
    near = np.argsort(-cosine_PP, axis=1, kind="stable")[:, :k]
    return near, np.take_along_axis(cosine_PP, near, axis=1)


def page(title: str, content: dict[str, object]) -> str:
    """The whole file: nothing is loaded from elsewhere."""
    here = files("recsys.playlists")
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return (
        here.joinpath("map.html")
        .read_text()
        .replace("TITLE", escape(title))
        .replace("SHOWN", str(SONGS))
        .replace('"DATA"', data)
    )
