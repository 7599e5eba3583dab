"""A linter for leaks: signs that what is measured knew its answer. Part of every evaluation.

`features.leaks` proves a build against its own rules and stops it. This looks at what comes to the
evaluation, whoever made it, and tells: a finding is a reason to look, not always a fault.

    duplicates     an event of training that is also a target (user, item and time)
    future events  a history that holds events after the moment of its request
    future items   a target on an item that was not available yet, by the item's own date
    statistics     item counts that contain the targets they are to predict
    labels         a feature that alone tells targets from the rest
    time           features that change when everything after the request is taken away

Shape suffixes: N examples, F features, V = num_items + 1 item columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.layout import Split
from features.store import Dataset
from offline_eval.metrics import Bools, Floats, Ints
from offline_eval.probabilities import auc_by_group
from offline_eval.task import Task, flat_rows

SUSPICIOUS = 0.995
"""AUC of a single feature from which it is taken for the label in disguise."""
SHOWN = 3
"""Offenders named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of leak, found at least once."""

    kind: str
    count: int
    told: str
    """What, how often, and where first."""

    def __str__(self) -> str:
        return f"POSSIBLE LEAK ({self.kind}): {self.told}"


def lint_dataset(data: Dataset, task: Task, split: Split) -> list[Finding]:
    """Duplicates, future events and future items of one split; empty where there are none."""
    return [
        *duplicated_targets(data, split),
        *future_events(task),
        *future_items(data, split),
    ]


def duplicated_targets(data: Dataset, split: Split) -> list[Finding]:
    """Targets that training has too: same user, item and time."""
    cases = data.cases(split)
    cuts = data.cuts
    trained = _rows(data, np.arange(len(cuts["start"])), cuts["start"], cuts["train_end"])
    targets = _rows(data, cases.users, cases.cuts, cases.ends)
    both = targets.join(trained.unique(), on=["user", "item", "time"], how="semi")
    if both.is_empty():
        return []
    first = both.head(SHOWN)["user"].to_list()
    told = (
        f"{len(both):,} of {len(targets):,} targets are also training events of the same user at "
        f"the same time (first user rows {first}): drop duplicates before splitting"
    )
    return [Finding("duplicates", len(both), told)]


def _rows(data: Dataset, users: Ints, starts: Ints, ends: Ints) -> pl.DataFrame:
    owners, rows = flat_rows(starts, ends)
    return pl.DataFrame(
        {"user": users[owners], "item": data.items[rows], "time": data.timestamps[rows]}
    )


def future_events(task: Task) -> list[Finding]:
    """Histories with events later than the request they are to answer."""
    owners, rows = flat_rows(task.histories.starts, task.histories.ends)
    late = task.histories.timestamps[rows] > task.at[owners]
    if not late.any():
        return []
    cases = np.unique(owners[late])
    told = (
        f"{len(cases):,} of {len(task):,} histories hold {int(late.sum()):,} events after their "
        f"own request (first cases {cases[:SHOWN].tolist()}): the split is not in order of time"
    )
    return [Finding("future events", len(cases), told)]


def future_items(data: Dataset, split: Split) -> list[Finding]:
    """Targets on items that were not available yet, by any declared timestamp column."""
    cases = data.cases(split)
    _, rows = flat_rows(cases.cuts, cases.ends)
    items, times = data.items[rows], data.timestamps[rows]
    found = []
    for column in data.schema.item_columns:
        if column.kind != "timestamp":
            continue
        since = data.item_table[column.name][items]
        early = (since > 0) & (since > times)  # 0 is missing
        if early.any():
            first = np.unique(items[early])[:SHOWN].tolist()
            told = (
                f"{int(early.sum()):,} of {len(items):,} targets lie before their item's "
                f"{column.name} (first item ids {first}): is the column the item's release, or a "
                "later change that tells the future?"
            )
            found.append(Finding("future items", int(early.sum()), told))
    return found


def lint_statistics(counts_V: Ints, data: Dataset, split: Split) -> list[Finding]:
    """Whether item counts contain the split's targets, which were to be predicted.

    counts_V: events of each item as a model or feature knows them. They leak where they equal the
    counts of training and targets together, and not those of training alone.
    """
    size = data.schema.num_items + 1
    training = data.training_histories()
    known_V = np.bincount(
        training.items[flat_rows(training.starts, training.ends)[1]], minlength=size
    )
    cases = data.cases(split)
    targets = data.items[flat_rows(cases.cuts, cases.ends)[1]]
    differing = np.flatnonzero(np.bincount(targets, minlength=size))
    told_of = counts_V[differing] > known_V[differing]
    if not told_of.any():
        return []
    first = differing[told_of][:SHOWN].tolist()
    told = (
        f"the counts of {int(told_of.sum()):,} of {len(differing):,} target items are above those "
        f"of training (first item ids {first}): they count events of the {split} split"
    )
    return [Finding("statistics", int(told_of.sum()), told)]


def lint_features(labels_N: Bools, features: Mapping[str, Floats]) -> list[Finding]:
    """Features that alone order targets above (or below) the rest almost perfectly.

    features: by name, (N,); nan counts as below every number.
    """
    if labels_N.all() or not labels_N.any():
        return []
    one_group = np.zeros(len(labels_N), np.int64)
    found = []
    for name, values_N in features.items():
        known_N = ~np.isnan(values_N)
        lowest = values_N[known_N].min(initial=0.0) - 1
        [auc], _ = auc_by_group(labels_N, np.where(known_N, values_N, lowest), one_group)
        if max(auc, 1 - auc) >= SUSPICIOUS:
            told = (
                f"{name} alone tells targets from the rest with AUC {auc:.4f} over "
                f"{len(labels_N):,} examples: is it made from the label?"
            )
            found.append(Finding("labels", 1, told))
    return found


def lint_time(
    with_future_NF: NDArray[np.floating],
    without_future_NF: NDArray[np.floating],
    names: Sequence[str],
) -> list[Finding]:
    """Features that change when all events from the request on are removed from the log.

    Both (N, F), the same examples: computed from the whole log, and from the log cut at each
    example's request. A feature as of the moment is equal in both.
    """
    same_NF = (with_future_NF == without_future_NF) | (
        np.isnan(with_future_NF) & np.isnan(without_future_NF)
    )
    changed_F = np.count_nonzero(~same_NF, axis=0)
    return [
        Finding(
            "time",
            int(count),
            f"{name} changes for {count:,} of {len(same_NF):,} examples when what happened after "
            "the request is taken away: it knows the future",
        )
        for name, count in zip(names, changed_F, strict=True)
        if count
    ]
