"""What a playlist's vector knows, by classifiers trained on frozen vectors (as SentEval does).

Each task is a class of every playlist, or of a changed copy of it:

    label       given from outside, such as a genre
    diversity   distinct values of an attribute (artists) a song, in three classes of like size
    length      songs, in at most ten classes of like size
    content     which of N songs of middling popularity is in it; of playlists that hold exactly one
    order       whether it was told in its own order, or with a share of its songs permuted

Shape suffixes: P playlists, D width.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Songs = Sequence[Ints]
"""Playlists: the song ids of each, in order."""
Encode = Callable[[Songs], Floats]
"""Vectors (P, D) of playlists."""
Change = Literal["window", "positions", "reverse"]
CHANGES: tuple[Change, ...] = ("window", "positions", "reverse")
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
LENGTH_CLASSES, DIVERSITY_CLASSES = 10, 3
SMALLEST_CLASS = 5
"""Playlists that train; smaller classes of a label or song are left out."""
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse L2 of logistic regression, one of them chosen on a tenth of the training playlists."""
HIDDEN = 50
"""Of the classifier with a hidden layer, as in SentEval."""


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """Playlists to train a classifier on and to test it with, and their classes (P,)."""

    name: str
    train: Songs
    train_class: Ints
    test: Songs
    test_class: Ints
    hidden: bool
    """Whether the classifier has a hidden layer."""

    @property
    def majority(self) -> float:
        """Accuracy of always naming the class that training has most of."""
        values, counts = np.unique(self.train_class, return_counts=True)
        return float(np.mean(self.test_class == values[np.argmax(counts)]))

    @property
    def usable(self) -> bool:
        """Two classes at least, on both sides."""
        return min(len(np.unique(self.train_class)), len(np.unique(self.test_class))) > 1


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of test playlists whose class was named, with a 95 % interval over playlists."""

    value: float
    low: float
    high: float
    playlists: int


def probe(task: ProbeTask, encode: Encode, *, seed: int = 0) -> Accuracy:
    """Train on the vectors of `task.train`, test on those of `task.test`."""
    return probe_vectors(task, encode(task.train), encode(task.test), seed=seed)


def probe_vectors(task: ProbeTask, train_PD: Floats, test_PD: Floats, *, seed: int = 0) -> Accuracy:
    """The same where the vectors are known already."""
    rows = np.random.default_rng(seed).permutation(len(train_PD))
    held = rows[: len(rows) // 10]
    fitting = rows[len(rows) // 10 :]
    best, chosen = -1.0, None
    for make in _classifiers(hidden=task.hidden, seed=seed):
        with warnings.catch_warnings():  # one that is cut short is judged like the others
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = make.fit(train_PD[fitting], task.train_class[fitting])
        score = model.score(train_PD[held], task.train_class[held]) if len(held) else 0.0
        if score > best:
            best, chosen = score, model
    assert chosen is not None
    right = chosen.predict(test_PD) == task.test_class
    return accuracy_of(right, seed=seed)


def accuracy_of(right: NDArray[np.bool_], *, seed: int = 0) -> Accuracy:
    """Mean and bootstrap interval of a right-or-wrong a playlist."""
    draw = np.random.default_rng(seed).integers(0, len(right), (500, len(right)))
    low, high = np.quantile(right[draw].mean(1), [0.025, 0.975])
    return Accuracy(float(right.mean()), float(low), float(high), len(right))


def _classifiers(*, hidden: bool, seed: int) -> list[Pipeline]:
    if not hidden:
        return [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300))
            for c in STRENGTHS
        ]
    return [
        make_pipeline(
            StandardScaler(),
            MLPClassifier(
                (HIDDEN,),
                activation="logistic",
                alpha=alpha,
                batch_size=64,  # pyright: ignore[reportArgumentType]: its default is a text
                learning_rate_init=3e-3,
                max_iter=100,
                early_stopping=True,
                n_iter_no_change=5,
                random_state=seed,
            ),
        )
        for alpha in (1e-4, 1e-2)
    ]


def label_task(train: Songs, train_of: Ints, test: Songs, test_of: Ints) -> ProbeTask:
    """Given classes, -1 where a playlist has none; small ones are left out."""
    values, counts = np.unique(train_of[train_of >= 0], return_counts=True)
    kept = values[counts >= SMALLEST_CLASS]
    first, second = np.isin(train_of, kept), np.isin(test_of, kept)
    return _task("label", (train, train_of, first), (test, test_of, second), hidden=False)


def length_task(train: Songs, test: Songs) -> ProbeTask:
    """Number of songs, in classes of like size as far as whole numbers allow."""
    lengths = [np.array([len(one) for one in part]) for part in (train, test)]
    return _binned("length", train, test, lengths, LENGTH_CLASSES)


def diversity_task(train: Songs, test: Songs, value_of: Ints) -> ProbeTask:
    """Distinct values a song; value_of: (V,) of each song."""
    shares = [
        np.array([len(np.unique(value_of[one])) / max(len(one), 1) for one in part])
        for part in (train, test)
    ]
    return _binned("diversity", train, test, shares, DIVERSITY_CLASSES)


def _binned(
    name: str, train: Songs, test: Songs, values: Sequence[NDArray], classes: int
) -> ProbeTask:
    edges = np.unique(np.quantile(values[0], np.arange(1, classes) / classes))
    binned = [np.searchsorted(edges, one, side="right") for one in values]
    every = [np.ones(len(one), np.bool_) for one in values]
    return _task(name, (train, binned[0], every[0]), (test, binned[1], every[1]), hidden=False)


def content_task(train: Songs, test: Songs, num_songs: int, *, seed: int = 0) -> ProbeTask:
    """Which of some songs of middling popularity a playlist holds.

    How many songs: `num_songs`, halved as often as that leaves more playlists with exactly one.
    """
    held = [np.unique(one) for one in train]
    ids, counts = np.unique(np.concatenate(held), return_counts=True)
    most = max(np.quantile(counts, 0.99), 4 * SMALLEST_CLASS)
    middling = ids[(counts >= 2 * SMALLEST_CLASS) & (counts <= most)]
    order = np.random.default_rng(seed).permutation(middling)
    sizes = [max(num_songs >> halved, 2) for halved in range(num_songs.bit_length())]
    fit = [int((_only_one(held, order[:size]) >= 0).sum()) for size in sizes]
    wanted = order[: sizes[int(np.argmax(fit))]]
    classes = [_only_one(part, wanted) for part in (held, [np.unique(one) for one in test])]
    values, sizes = np.unique(classes[0][classes[0] >= 0], return_counts=True)
    kept = values[sizes >= SMALLEST_CLASS]
    first, second = np.isin(classes[0], kept), np.isin(classes[1], kept)
    return _task("content", (train, classes[0], first), (test, classes[1], second), hidden=False)


def _only_one(sets: Songs, wanted: Ints) -> Ints:
    """The one wanted song of each set, -1 where there is none or several."""
    found = [one[np.isin(one, wanted)] for one in sets]
    return np.array([int(one[0]) if len(one) == 1 else -1 for one in found])


def _task(
    name: str,
    train: tuple[Songs, Ints, NDArray[np.bool_]],
    test: tuple[Songs, Ints, NDArray[np.bool_]],
    *,
    hidden: bool,
) -> ProbeTask:
    parts = [
        ([songs[row] for row in np.flatnonzero(kept).tolist()], classes[kept])
        for songs, classes, kept in (train, test)
    ]
    return ProbeTask(name, *parts[0], *parts[1], hidden)


def order_task(
    train: Songs, test: Songs, change: Change, fraction: float, *, seed: int = 0
) -> ProbeTask:
    """Own order or not; every playlist of two songs and more is shown both ways."""
    draw = np.random.default_rng(seed)
    parts: list[tuple[Songs, Ints]] = []
    for songs in (train, test):
        kept = [one for one in songs if len(one) > 1]
        other = [permuted(one, change, fraction, draw) for one in kept]
        parts.append(([*kept, *other], np.repeat([0, 1], len(kept))))
    return ProbeTask(f"order: {change} {fraction:.0%}", *parts[0], *parts[1], hidden=True)


def permuted(songs: Ints, change: Change, fraction: float, draw: np.random.Generator) -> Ints:
    """A copy with a share of the songs in another order.

    window: shuffled within one stretch. positions: places drawn at random, shuffled among each
    other. reverse: one stretch told backwards. At least two songs move.
    """
    count = min(max(round(fraction * len(songs)), 2), len(songs))
    changed = songs.copy()
    if change == "positions":
        places = np.sort(draw.choice(len(songs), count, replace=False))
    else:
        first = draw.integers(0, len(songs) - count + 1)
        places = np.arange(first, first + count)
    order = np.arange(count)[::-1] if change == "reverse" else _moved(count, draw)
    changed[places] = songs[places[order]]
    return changed


def _moved(count: int, draw: np.random.Generator) -> Ints:
    """A random order that is not the given one."""
    order = draw.permutation(count)
    return np.roll(order, 1) if (order == np.arange(count)).all() else order


def precision_at(vectors: tuple[Floats, Floats], classes: tuple[Ints, Ints], k: int) -> Accuracy:
    """Share of the k nearest training playlists that are of the class of the one asked for.

    vectors, classes: of training and of test; vectors of length 1. The value is a mean over the
    test playlists. A class of -1 is none: such playlists neither ask nor answer.
    """
    known, asked = classes[0] >= 0, classes[1] >= 0
    cosines = vectors[1][asked] @ vectors[0][known].T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    shares = (classes[0][known][nearest] == classes[1][asked][:, None]).mean(1)
    return accuracy_of(shares)


def all_tasks(
    train: Songs,
    test: Songs,
    *,
    labels: tuple[Ints, Ints] | None,
    value_of: Ints | None,
    num_songs: int,
    orders: Mapping[Change, Sequence[float]],
) -> list[ProbeTask]:
    """Every task that the data allows, in the order of the page."""
    tasks = []
    if labels is not None:
        tasks.append(label_task(train, labels[0], test, labels[1]))
    if value_of is not None:
        tasks.append(diversity_task(train, test, value_of))
    tasks += [length_task(train, test), content_task(train, test, num_songs)]
    tasks += [
        order_task(train, test, change, fraction)
        for change, fractions in orders.items()
        for fraction in fractions
    ]
    return [task for task in tasks if task.usable]
