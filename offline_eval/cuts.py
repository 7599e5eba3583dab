"""The same lists measured on a part of the targets: where does a system earn its score?

A cut sorts every target into one group. A group's metrics take its targets as the only relevant
items, so a user without one is undefined there (nan), and hits on other targets are misses.

Shape suffixes: U users, K ranks, T targets, V = num_items + 1 item columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_eval.hits import Truth, find_hits
from offline_eval.metrics import Floats, Ints, hit_rate, ndcg
from offline_eval.task import Task

CUT_METRICS = {"hit_rate": hit_rate, "ndcg": ndcg}
LENGTHS = (1, 5, 20, 100)
"""A history of at least so many events begins a new group."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to sort targets into groups."""

    name: str
    groups: tuple[str, ...]
    codes: NDArray[np.int64]
    """(T,) group of each target, in the order of the truth."""


def by_history_length(task: Task) -> Cut:
    """Groups of users by events before the test: `none` are new users."""
    ends = [*(str(start - 1) for start in LENGTHS[1:]), ""]
    names = [f"{low} to {high}" for low, high in zip(LENGTHS, ends, strict=True)]
    names[-1] = f"{LENGTHS[-1]} or more"
    codes = np.digitize(task.histories.lengths, LENGTHS)
    return Cut("events in the history", ("none", *names), codes[task.truth.users])


def by_popularity(task: Task, interactions_V: Ints) -> Cut:
    """Groups of items: those with no training event, and thirds of all training events.

    From the most popular item downwards, an item is in the third that its first event falls in: the
    head is a few items, and the tail is most of the catalogue.
    """
    order = np.argsort(-interactions_V[1:], kind="stable") + 1
    before = np.cumsum(interactions_V[order]) - interactions_V[order]
    groups_V = np.zeros(len(interactions_V), np.int64)
    groups_V[order] = 3 - np.minimum(3 * before // max(interactions_V.sum(), 1), 2)
    groups_V[interactions_V == 0] = 0
    names = ("cold: none", "tail: last third", "middle third", "head: first third")
    return Cut("training events of the target", names, groups_V[task.truth.items])


def cut_block(cut: Cut, truth: Truth, start: int, stop: int) -> Cut:
    """The cut of users start..stop - 1 of `truth`."""
    rows = slice(truth.offsets[start], truth.offsets[stop])
    return Cut(cut.name, cut.groups, cut.codes[rows])


def cut_values(lists_UK: Ints, truth: Truth, cut: Cut) -> Mapping[tuple[str, str], Floats]:
    """Values per user by (group, metric), over the whole width of the lists."""
    values: dict[tuple[str, str], Floats] = {}
    for code, group in enumerate(cut.groups):
        part = truth.select(cut.codes == code)
        hits_UK = find_hits(lists_UK, part)
        for name, metric in CUT_METRICS.items():
            values[group, name] = metric(hits_UK, part.num_relevant)
    return values
