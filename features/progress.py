"""What a build tells people while it works (on a terminal) and when it is done (always)."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.distinct import distinct
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


def peak_memory() -> float:
    """The most memory that this process has held, MiB (resident, mapped files included)."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


@dataclass
class Progressing:
    """A bar of finished pieces, with rows a second and peak memory beside it."""

    show: Callable[[int, str], None]
    """Receives the pieces that are finished, and the text beside the bar."""
    started: float
    count: int = 0
    done: int = 0

    def rows(self, count: int) -> None:
        """`count` more rows have gone through."""
        self.count += count
        self._draw()

    def advance(self) -> None:
        """One more piece is finished."""
        self.done += 1
        self._draw()

    def _draw(self) -> None:
        rate = self.count / max(time.perf_counter() - self.started, 1e-9)
        self.show(self.done, f"{rate:,.0f} rows/s, peak {peak_memory():,.0f} MiB")


@contextmanager
def progress(title: str, total: int) -> Iterator[Progressing]:
    """Yield a bar over `total` pieces of work; nothing is drawn where stderr is not a terminal."""
    started = time.perf_counter()
    if not sys.stderr.isatty():
        yield Progressing(lambda done, text: None, started)
        return
    from rich.console import Console  # noqa: PLC0415 - a batch job needs none
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    shown = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, "{task.fields[text]}", console=console) as bars:
        task = bars.add_task(title, total=total, text="")
        yield Progressing(lambda done, text: bars.update(task, completed=done, text=text), started)


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
    num_warm: int,
) -> PartCounts:
    """Count one split of a dataset; is_target: (E,) whether the behaviour is one to predict."""
    first, last = f"{split}_start", f"{split}_end"
    rows = np.flatnonzero(between(cuts, first, last, len(item_ids)) & is_target)
    users = distinct(np.searchsorted(cuts["start"], rows, side="right") - 1)
    return PartCounts(
        cases=len(users),
        targets=len(rows),
        cold_targets=int((item_ids[rows] > num_warm).sum()),
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
