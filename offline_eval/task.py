"""What a split of a dataset asks: histories, moments, targets and candidates, case by case."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.layout import Split
from features.store import Dataset
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth
from offline_eval.metrics import Ints


@dataclass(frozen=True, slots=True)
class Task:
    """C cases of one split. Arrays are in the order of the cases, which is that of the users."""

    users: NDArray[np.int64]
    """(C,) row of the user in the dataset."""
    histories: Histories
    at: NDArray[np.int64]
    """(C,) moment of the request: the case's first target, microseconds UTC."""
    truth: Truth
    """Relevant items, each once."""
    num_items: int
    exclude_seen: bool
    """Whether items of the history are no candidates."""
    cold_dropped: int
    """Targets left out because training never saw their item."""

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, dataset: Dataset, split: Split, *, exclude_seen: bool) -> "Task":
        """The cases of a split: target behaviours only, cold targets as the dataset says."""
        schema, cases = dataset.schema, dataset.cases(split)
        wanted = [code for code, name in enumerate(schema.event_types, 1)
                  if name in schema.target_events]  # fmt: skip
        owners, rows = flat_rows(cases.cuts, cases.ends)
        kept = np.isin(dataset.events[rows], wanted)
        owners, rows = owners[kept], rows[kept]
        if not len(owners):
            raise InputError(
                f"the {split} split of {dataset.path} has no targets ({len(cases)} cases, events "
                f"{list(schema.target_events)}): choose another split or other target_events"
            )
        at = dataset.timestamps[np.minimum(cases.cuts, len(dataset.timestamps) - 1)].copy()
        first = np.unique(owners, return_index=True)
        at[first[0]] = dataset.timestamps[rows[first[1]]]
        truth = Truth.of(owners, dataset.items[rows], len(cases))
        cold = truth.items > schema.num_warm_items
        dropped = int(np.count_nonzero(cold)) if schema.cold_targets == "drop" else 0
        return cls(
            users=cases.users,
            histories=dataset.histories(cases),
            at=at,
            truth=truth.select(~cold) if dropped else truth,
            num_items=schema.num_items,
            exclude_seen=exclude_seen,
            cold_dropped=dropped,
        )

    def blocks(self, size: int) -> Iterator["Task"]:
        """The same cases, at most `size` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Task(
                users=self.users[rows],
                histories=self.histories.take(rows),
                at=self.at[rows],
                truth=self.truth.block(start, min(start + size, len(self))),
                num_items=self.num_items,
                exclude_seen=self.exclude_seen,
                cold_dropped=0,
            )

    def candidates(self) -> Candidates:
        """All items, minus each case's seen ones where these are excluded."""
        if not self.exclude_seen:
            return Candidates.everything(len(self), self.num_items)
        owners, rows = flat_rows(self.histories.starts, self.histories.ends)
        return Candidates.without(
            owners, self.histories.items[rows], num_users=len(self), num_items=self.num_items
        )

    def counts(self, num_warm_items: int) -> dict[str, int]:
        """Cases and targets, and how many of them are special, by a name for people."""
        reachable = self.candidates().hold(self.truth.users, self.truth.items)
        cold = int(np.count_nonzero(self.truth.items > num_warm_items))
        return {
            "cases": len(self),
            "targets": len(self.truth.items),
            "cold targets (kept)": cold,
            "cold targets (dropped)": self.cold_dropped,
            "cases without a target": int(np.count_nonzero(self.truth.num_relevant == 0)),
            "seen targets (unreachable)": int(np.count_nonzero(~reachable)),
            "empty histories": int(np.count_nonzero(self.histories.lengths == 0)),
        }


def flat_rows(starts: Ints, ends: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owner and row of each row in the half-open ranges, one range after the other.

    >>> owners, rows = flat_rows(np.array([4, 9]), np.array([6, 10]))
    >>> owners.tolist(), rows.tolist()
    ([0, 0, 1], [4, 5, 9])
    """
    lengths = ends - starts
    owners = np.repeat(np.arange(len(lengths)), lengths)
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return owners.astype(np.int64), (np.arange(len(owners)) + shift).astype(np.int64)
