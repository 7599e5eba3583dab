"""Training batches: windows of the histories, in an order that is a function of seed and epoch.

1. A history becomes one window (its last events) or several that cover it (`cut_windows`).
2. An epoch shuffles the windows and sorts them by length within pools of a few batches, so that a
   batch holds windows of like length and padding costs little; the batches come in random order.
3. A batch is encoded by `features.encode`; the target of each position is the item after it, or
   one of the next few (`TrainConfig.horizon`).

The position in the data is the step number and nothing else: to resume, start at a later step.

Shape suffixes: R ranges, W windows, B windows of a batch, L positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from features.errors import InputError
from features.layout import DatasetSchema
from features.store import Dataset
from recsys.models.interface import HistoryBatch

BATCHES_PER_POOL = 16
"""More: less padding, and batches that differ more in length from each other."""
STREAM = 2
"""Keeps the draws of targets apart from others of the same seed."""

Ints = NDArray[np.int64]
AnyInts = NDArray[np.integer]


class StreamConfig(Protocol):
    """The part of `TrainConfig` that the stream depends on (so that it needs no pydantic)."""

    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def windows(self) -> str: ...  # noqa: D102
    @property
    def targets(self) -> str: ...  # noqa: D102
    @property
    def horizon(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def cut_windows(starts_U: AnyInts, ends_U: AnyInts, size: int, *, cover: bool) -> tuple[Ints, Ints]:
    """Row ranges (W,) of at most `size` events, at least 2, newest first within a history.

    Only the last window of each history, or with `cover` further ones to its start. Neighbours
    share one event, so that each event but a history's first is a target exactly once.
    """
    length_U = ends_U - starts_U
    long_U = length_U >= 2
    starts_U, ends_U = starts_U[long_U].astype(np.int64), ends_U[long_U].astype(np.int64)
    if not cover:
        return np.maximum(starts_U, ends_U - size), ends_U
    count_U = -(-(ends_U - starts_U - 1) // (size - 1))
    user_W = np.repeat(np.arange(len(count_U)), count_U)
    nth_W = np.arange(len(user_W)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    ends_W = ends_U[user_W] - nth_W * (size - 1)
    return np.maximum(starts_U[user_W], ends_W - size), ends_W


def rows_between(starts_R: AnyInts, ends_R: AnyInts) -> tuple[Ints, Ints]:
    """Of ranges [starts, ends): the number of the range, and the row, of every row in order."""
    length_R = ends_R - starts_R
    owner = np.repeat(np.arange(len(starts_R)), length_R)
    before = np.repeat(np.cumsum(length_R) - length_R, length_R)
    return owner, np.arange(len(owner)) - before + starts_R[owner]


def epoch_order(length_W: Ints, batch_size: int, seed: int, epoch: int) -> list[Ints]:
    """Window numbers of each batch of one epoch; the last batch of the last pool may be smaller."""
    draw = np.random.default_rng([seed, epoch])
    shuffled_W = draw.permutation(len(length_W))
    batches: list[Ints] = []
    for first in range(0, len(shuffled_W), batch_size * BATCHES_PER_POOL):
        pool = shuffled_W[first : first + batch_size * BATCHES_PER_POOL]
        pool = pool[np.argsort(length_W[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


@dataclass(frozen=True, slots=True)
class TrainingBatches:
    """The endless stream of batches of one rank, addressed by step."""

    dataset: Dataset
    windows: Histories
    config: StreamConfig
    inputs: tuple[str, ...]
    """Model inputs, by the names of `features.encode`."""
    rank: int
    world_size: int

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        config: StreamConfig,
        model_inputs: tuple[str, ...],
        max_len: int,
        ranks: tuple[int, int] = (0, 1),
    ) -> "TrainingBatches":
        """Cut the training histories; `ranks` is (rank, world size). Raises InputError if none."""
        histories = dataset.training_histories()
        starts, ends = cut_windows(
            histories.starts, histories.ends, max_len + 1, cover=config.windows == "all"
        )
        if not len(starts):
            raise InputError(
                f"{dataset.path} has no training history of two events or more "
                f"({len(histories)} of one): nothing can be learned from it"
            )
        windows = Histories(histories.items, histories.timestamps, histories.events, starts, ends)
        return cls(dataset, windows, config, model_inputs, *ranks)

    def item_counts(self) -> Ints:
        """Events of the items 1..N in the windows, (N,)."""
        _, rows = rows_between(self.windows.starts, self.windows.ends)
        ids = self.windows.items[rows]
        return np.bincount(ids, minlength=self.dataset.schema.num_items + 1)[1:]

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each window once, over all ranks."""
        return -(-len(self.windows) // (self.config.batch_size * self.world_size))

    def from_step(self, step: int) -> Iterator[HistoryBatch]:
        """The batches of steps `step`, `step + 1`, ... (the first step is 0)."""
        size = self.config.batch_size * self.world_size
        length_W = self.windows.lengths
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            for rows in epoch_order(length_W, size, self.config.seed, epoch)[first:]:
                yield self.batch(self.share(rows), step)
                step += 1

    def share(self, rows: Ints) -> Ints:
        """The rank's part of a global batch: like lengths for each, and at least one row."""
        if len(rows) < self.world_size:
            rows = np.resize(rows, self.world_size)
        return rows[self.rank :: self.world_size]

    def batch(self, rows_B: Ints, step: int) -> HistoryBatch:
        """The windows `rows_B`: all events but the last as input, a later event as target."""
        window = self.windows.take(rows_B)
        before = Histories(
            window.items, window.timestamps, window.events, window.starts, window.ends - 1
        )
        length = int(before.lengths.max())
        inputs = encode_histories(before, self.inputs, length, self.dataset.item_table)
        return HistoryBatch.of(
            {name: torch.from_numpy(value) for name, value in inputs.items()},
            torch.from_numpy(self.targets(window, length, step)),
        )

    def targets(self, window: Histories, length: int, step: int) -> Ints:
        """An item after each position, (B, L); 0 where it is padding or no target behaviour.

        The next one, or with a `horizon` h one of the next h of the window, all as likely.
        """
        later_BL = (window.lengths - 1)[:, None] - np.arange(length)  # events after the position
        ahead_BL = np.minimum(later_BL, self.config.horizon)
        if self.config.horizon > 1:
            draw = np.random.default_rng([self.config.seed, STREAM, step, self.rank])
            ahead_BL = 1 + (draw.random(ahead_BL.shape) * ahead_BL).astype(np.int64)
        rows_BL = np.where(later_BL > 0, window.ends[:, None] - 1 - later_BL + ahead_BL, 0)
        wanted_BL = later_BL > 0
        if self.config.targets == "target_events":
            wanted_BL &= np.isin(window.events[rows_BL], target_codes(self.dataset.schema))
        return np.where(wanted_BL, window.items[rows_BL], 0).astype(np.int64)


def target_codes(schema: DatasetSchema) -> Ints:
    """Codes of the behaviours that count as targets."""
    return np.array([schema.event_types.index(name) + 1 for name in schema.target_events])
