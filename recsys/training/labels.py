"""Examples of several tasks: what became of an item that a user met, read off the event log.

1. The events of one user on one item fall into runs: a run ends before a pause longer than
   `label_seconds`, and before the item is shown again, where the log knows what was shown.
2. A run is one example. Its first event is the meeting, its history ends before that, and the label
   of a task is whether the run holds one of the task's behaviours.
3. A log with impressions (`shown`) gives an example for each of them; those of one user and moment
   are one list and share the history. Without impressions an example is a run with a target
   behaviour, and items drawn at random stand beside it.
4. A task `among` another is known only where the other's label is 1.

Shape suffixes: E events, R runs, then moments, C candidates, T tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from recsys.training.batches import rows_between, target_codes
from recsys.training.config import RankingConfig
from recsys.training.moments import Moments, first_of_the_same_time, most_recent
from recsys.training.task_config import TaskConfig

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SECOND = 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Runs:
    """R meetings of a user and an item, by user and then by row of the first event."""

    users: Ints
    items: Ints
    rows: Ints
    """Row of the first event."""
    labels: Bools
    """(R, T)."""

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: Ints | Bools) -> "Runs":
        """Some of the runs."""
        return Runs(self.users[chosen], self.items[chosen], self.rows[chosen], self.labels[chosen])


def codes_of(data: Dataset, names: Sequence[str], where: str) -> Ints:
    """Codes of behaviours; raises InputError for one that the dataset has not."""
    types = data.schema.event_types
    if unknown := sorted(set(names) - set(types)):
        raise InputError(
            f"{where} names {unknown}, but {data.path} has the behaviours {list(types)}"
        )
    return np.array([1 + types.index(name) for name in names], np.int64)


def runs_of(data: Dataset, config: RankingConfig, ends_U: Ints) -> Runs:
    """The runs in rows [start, ends) of each user; what comes later is unknown."""
    user_E, row_E = rows_between(data.cuts["start"], ends_U)
    item_E, event_E = data.items[row_E].astype(np.int64), data.events[row_E]
    order = np.lexsort((row_E, item_E, user_E))
    user_E, item_E, row_E = user_E[order], item_E[order], row_E[order]
    event_E = event_E[order]
    time_E = data.timestamps[row_E]
    first_E = np.ones(len(row_E), np.bool_)
    same_E = (user_E[1:] == user_E[:-1]) & (item_E[1:] == item_E[:-1])
    near_E = time_E[1:] - time_E[:-1] <= config.label_seconds * SECOND
    first_E[1:] = ~(same_E & near_E)
    meets = codes_of(data, (config.shown,) if config.shown else (), "train.ranking.shown")
    if len(meets):
        shown_E = np.isin(event_E, meets)
        again_E = shown_E.copy()
        again_E[1:] &= ~(shown_E[:-1] & (time_E[1:] == time_E[:-1]))  # one moment, one showing
        first_E |= again_E
    else:
        meets = target_codes(data.schema)
    run_E = np.cumsum(first_E) - 1
    size = int(run_E[-1]) + 1 if len(run_E) else 0
    labels_RT = np.zeros((size, max(len(config.tasks), 1)), np.bool_)
    for t, task in enumerate(config.tasks):
        wanted = np.isin(event_E, events_of(data, task))
        labels_RT[run_E[wanted], t] = True
    begins = np.flatnonzero(first_E)
    kept_R = np.isin(event_E[begins], meets) if config.shown else np.zeros(size, np.bool_)
    if not config.shown:
        kept_R[run_E[np.isin(event_E, meets)]] = True
    found = Runs(user_E[begins], item_E[begins], row_E[begins], labels_RT).take(kept_R)
    return found.take(np.lexsort((found.rows, found.users)))


def events_of(data: Dataset, task: TaskConfig) -> Ints:
    """Codes of the behaviours that make a task's label 1."""
    if not task.events:
        return target_codes(data.schema)
    return codes_of(data, task.events, f"task {task.name}")


def labelled_moments(
    data: Dataset, config: RankingConfig, firsts_U: Ints, ends_U: Ints
) -> tuple[Moments, Ints, Bools]:
    """Moments whose meeting lies in rows [firsts, ends); items (R, C), 0 padding; labels (R, C, T).

    C is 1 without impressions, else the longest list.
    """
    runs = runs_of(data, config, ends_U)
    kept_R = runs.rows >= firsts_U[runs.users]
    if data.schema.cold_targets == "drop":
        kept_R &= runs.items <= data.schema.num_warm_items
    runs = runs.take(kept_R)
    starts_U = data.cuts["start"]
    list_R, place_R, first_R = lists(data, config, runs)
    count = int(list_R[-1]) + 1 if len(runs) else 0
    head_R = np.flatnonzero(place_R == 0)
    cut_R = first_R[head_R]
    if config.simultaneous == "hidden":
        cut_R = first_of_the_same_time(data.timestamps, starts_U)[cut_R]
    width = int(place_R.max(initial=0)) + 1
    items_RC = np.zeros((count, width), np.int64)
    labels_RCT = np.zeros((count, width, runs.labels.shape[1]), np.bool_)
    items_RC[list_R, place_R] = runs.items
    labels_RCT[list_R, place_R] = runs.labels
    user_R = runs.users[head_R]
    moments = Moments(user_R, starts_U[user_R], cut_R, runs.rows[head_R])
    kept = most_recent(
        user_R, cut_R - starts_U[user_R] >= config.min_history, len(starts_U), config
    )
    return moments.take(kept), items_RC[kept], labels_RCT[kept]


def lists(data: Dataset, config: RankingConfig, runs: Runs) -> tuple[Ints, Ints, Ints]:
    """Of each run: the number of its list, its place in it, and the row where the list begins.

    A list is what was shown to a user at one moment, cut at `list_size`.
    """
    if not config.shown:
        return np.arange(len(runs)), np.zeros(len(runs), np.int64), runs.rows
    time_R = data.timestamps[runs.rows]
    new_R = np.ones(len(runs), np.bool_)
    new_R[1:] = (runs.users[1:] != runs.users[:-1]) | (time_R[1:] != time_R[:-1])
    begins = np.flatnonzero(new_R)
    begin_R = np.repeat(begins, np.diff(np.append(begins, len(runs))))
    place_R = np.arange(len(runs)) - begin_R
    new_R |= place_R % config.list_size == 0
    return np.cumsum(new_R) - 1, place_R % config.list_size, runs.rows[begin_R]


def known_labels(tasks: Sequence[TaskConfig], items_RC: Ints, labels_RCT: Bools) -> Bools:
    """Which labels belong to their task's sample space, (R, C, T)."""
    known_RCT = np.repeat((items_RC > 0)[..., None], labels_RCT.shape[2], 2)
    names = [task.name for task in tasks]
    for t, task in enumerate(tasks):
        if task.among:
            known_RCT[..., t] &= labels_RCT[..., names.index(task.among)]
    return known_RCT


def check_labels(
    where: str,
    tasks: Sequence[TaskConfig],
    labels_RCT: Bools,
    known_RCT: Bools,
    *,
    drawn: int = 0,
) -> None:
    """Raise InputError unless every task has labels of both kinds.

    drawn: items a moment that will stand beside, with label 0 in tasks of everything shown.
    """
    for t, task in enumerate(tasks):
        count = int(known_RCT[..., t].sum()) + (0 if task.among else drawn * len(labels_RCT))
        positive = int((labels_RCT[..., t] & known_RCT[..., t]).sum())
        if positive in (0, count):
            raise InputError(
                f"task {task.name} has {positive} positive of {count} labels in {where}: it can "
                f"be neither learnt nor measured; leave it out, take more data, or lengthen "
                f"label_seconds"
            )
