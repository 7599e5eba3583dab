"""The same answers measured on a part of the targets: where does a system earn its score?

A cut sorts every target into one group. A group's metrics take its targets as the only relevant
items, so a user without one is undefined there (nan), and hits on other targets are misses.

Shape suffixes: U users, T targets, V = num_items + 1 item columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_eval.answers import Answer
from offline_eval.hits import Truth
from offline_eval.metrics import Bools, Floats, Ints
from offline_eval.task import Task

SEEN = (0, 1, 5, 10, 50)
"""Training events from which on a target is in the next group of `by_support`."""
SPARSE_BELOW = 5
"""Training events below which an item is sparse; the usual filters of session data drop it."""
LENGTHS = (1, 5, 20, 100)
"""A history of at least so many events begins a new group."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to sort targets into groups."""

    name: str
    groups: tuple[str, ...]
    codes: NDArray[np.int64]
    """(T,) group of each target, in the order of the truth."""

    @property
    def targets(self) -> dict[str, int]:
        """Targets in each group."""
        counts = np.bincount(self.codes, minlength=len(self.groups))
        return dict(zip(self.groups, counts.tolist(), strict=True))


def by_history_length(task: Task) -> Cut:
    """Groups of users by events before the test: `none` have no history at all."""
    ends = [*(str(start - 1) for start in LENGTHS[1:]), ""]
    names = [f"{low} to {high}" for low, high in zip(LENGTHS, ends, strict=True)]
    names[-1] = f"{LENGTHS[-1]} or more"
    return by_user(
        "events in the history",
        ("none", *names),
        task,
        np.digitize(task.histories.lengths, LENGTHS),
    )


def by_training(task: Task, trained_U: Bools) -> Cut:
    """New users, of whom training saw no event, and regular ones."""
    return by_user("user", ("new: not in training", "regular"), task, trained_U.astype(np.int64))


def by_user(name: str, groups: tuple[str, ...], task: Task, codes_U: Ints) -> Cut:
    """Any sorting of users: a user's targets are all in the user's group."""
    return Cut(name, groups, codes_U.astype(np.int64)[task.truth.users])


def by_warmth(task: Task, interactions_V: Ints) -> Cut:
    """Cold items, which training never saw, and warm ones."""
    warm_V = (interactions_V > 0).astype(np.int64)
    return Cut("item", ("cold: not in training", "warm"), warm_V[task.truth.items])


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


def by_support(task: Task, interactions_V: Ints) -> Cut:
    """Groups of targets by their training events: from none at all to 50 and more."""
    ends = [*(str(start - 1) for start in SEEN[1:]), ""]
    names = [str(low) if str(low) == high else f"{low} to {high}"
             for low, high in zip(SEEN, ends, strict=True)]  # fmt: skip
    names[-1] = f"{SEEN[-1]} or more"
    codes_V = np.digitize(interactions_V, SEEN) - 1
    return Cut("times the target was seen in training", tuple(names), codes_V[task.truth.items])


def by_view(task: Task, interactions_V: Ints) -> Cut:
    """The three test views of session data: standard, sparse and cold targets.

    All are ranked among the same candidates, whole catalogue and all.
    """
    views = ("cold: never seen", f"sparse: seen 1 to {SPARSE_BELOW - 1} times",
             f"standard: seen {SPARSE_BELOW} times or more")  # fmt: skip
    codes_V = np.digitize(interactions_V, (1, SPARSE_BELOW))
    return Cut("view", views, codes_V[task.truth.items])


def cut_block(cut: Cut, truth: Truth, start: int, stop: int) -> Cut:
    """The cut of users start..stop - 1 of `truth`."""
    rows = slice(truth.offsets[start], truth.offsets[stop])
    return Cut(cut.name, cut.groups, cut.codes[rows])


def cut_values(answer: Answer, cut: Cut, k: int) -> Mapping[tuple[str, str], Floats]:
    """Every metric at k per user, by (group, metric name)."""
    return {
        (group, name): values
        for code, group in enumerate(cut.groups)
        for name, values in answer.values(cut.codes == code, (k,)).items()
    }
