"""What a build tells people while it works (on a terminal) and when it is done (always)."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.layout import DatasetSchema
from features.splits import Cuts, between


@contextmanager
def steps(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current step; silent where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console  # noqa: PLC0415 - a batch job needs none

    with Console(stderr=True).status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """What a split holds, in targets of the behaviours to predict."""

    cases: int
    """Users with a target."""
    targets: int
    cold_targets: int
    """Targets on items that no training event names."""
    cold_users: int
    """Cases with an empty history."""


def count_part(
    split: str,
    cuts: Cuts,
    item_ids: NDArray[np.int32],
    is_target: NDArray[np.bool_],
    schema: DatasetSchema,
) -> PartCounts:
    """Count one split of a finished dataset; is_target: (E,) behaviour is one to predict."""
    first, last = f"{split}_start", f"{split}_end"
    rows = np.flatnonzero(between(cuts, first, last, len(item_ids)) & is_target)
    users = np.unique(np.searchsorted(cuts["start"], rows, side="right") - 1)
    return PartCounts(
        cases=len(users),
        targets=len(rows),
        cold_targets=int((item_ids[rows] > schema.num_warm_items).sum()),
        cold_users=int((cuts[first][users] == cuts["start"][users]).sum()),
    )


def describe(
    schema: DatasetSchema, rows_read: int, trained: int, parts: dict[str, PartCounts]
) -> str:
    """One line: rows in and kept, users, items, the parts and what is cold in them."""
    shares = [
        f"{name} {part.targets:,} targets of {part.cases:,} users "
        f"({part.cold_targets:,} on cold items{', dropped' * (schema.cold_targets == 'drop')}, "
        f"{part.cold_users:,} cold users)"
        for name, part in parts.items()
    ]
    return (
        f"{schema.num_events:,} of {rows_read:,} events kept, {schema.num_users:,} users, "
        f"{schema.num_items:,} items ({schema.num_warm_items:,} in training); "
        f"{schema.split['name']}: training {trained:,} events, {', '.join(shares)}"
    )
