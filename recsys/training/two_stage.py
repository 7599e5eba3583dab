"""Two-stage fine-tuning of Recformer (Algorithm 1; the authors' `finetune.py`).

Stage 1. At the start of an epoch all items are encoded by the present weights, without dropout or
gradient; the epoch trains histories against these vectors. The best validation keeps both.
Stage 2. From the best of stage 1, against its item vectors, which are not encoded again.

A sample is a user with one random event of the training part as target and those before it as
history: one a user and epoch. It is a function of seed, epoch and user, so a run resumes exactly.

Unlike in the published script each stage has its own optimizer and learning rate (there the second
goes on with a schedule that the first may have used up), and validations count epochs alike in
both. The weights that encoded the items are part of the model, so a checkpoint holds them.

Shape suffixes: U users with a sample, B samples of a step, V item ids (0 is padding), D width.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encode import Histories, encode_histories
from features.errors import InputError
from features.store import Dataset
from recsys.models.interface import HistoryBatch, ItemBatch
from recsys.models.recformer import VECTOR, Recformer
from recsys.training.batches import rows_between
from recsys.training.config import TrainConfig
from recsys.training.negatives import ObjectiveOfStep, objective_of_step
from recsys.training.text_config import TwoStageConfig
from recsys.training.token_count import TokenCount
from recsys.training.validation import Validation, encode_all_items

STREAM = 3
"""Keeps these draws apart from others of the same seed."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """One sample a user and epoch, from the training part of a dataset."""

    dataset: Dataset
    starts: Ints
    ends: Ints
    """(U,) rows of the training part of each user who has a sample."""
    seed: int
    first: int
    """Least number of events before a target: 1, or 0 where empty histories are wanted."""

    @classmethod
    def of(cls, dataset: Dataset, seed: int, *, empty_histories: bool) -> "Samples":
        """Raises InputError where no user has one."""
        first, histories = int(not empty_histories), dataset.training_histories()
        rows = np.flatnonzero(histories.lengths > first)
        if not len(rows):
            raise InputError(
                f"{dataset.path} has no training history of two events or more "
                f"({len(histories)} of one): nothing can be learned from it"
            )
        taken = histories.take(rows)
        return cls(dataset, taken.starts.astype(np.int64), taken.ends.astype(np.int64), seed, first)

    def __len__(self) -> int:
        return len(self.starts)

    def epoch(self, epoch: int) -> tuple[Ints, Ints]:
        """An order of the users, and the row of each user's target, (U,) both."""
        draw = np.random.default_rng([self.seed, STREAM, epoch])
        choices_U = self.ends - self.starts - self.first
        targets_U = self.starts + self.first + (draw.random(len(self)) * choices_U).astype(np.int64)
        return draw.permutation(len(self)), targets_U

    def history_batch(
        self, users_B: Ints, targets_U: Ints, inputs: tuple[str, ...], max_len: int
    ) -> HistoryBatch:
        """The histories before the targets of some users, with the target after the last event."""
        data, ends_B = self.dataset, targets_U[users_B]
        histories = Histories(
            data.items, data.timestamps, data.events, self.starts[users_B], ends_B
        )
        encoded = encode_histories(histories, inputs, max_len, data.item_table)
        last_B = np.maximum(np.minimum(histories.lengths, max_len) - 1, 0)
        targets_BL = np.zeros((len(users_B), int(last_B.max()) + 1), np.int64)
        targets_BL[np.arange(len(users_B)), last_B] = data.items[ends_B]
        return HistoryBatch.of(
            {name: torch.from_numpy(value) for name, value in encoded.items()},
            torch.from_numpy(targets_BL),
        )


@dataclass(slots=True)
class TwoStageTask:
    """One of the two stages; a `recsys.training.task.Task`."""

    fabric: Fabric
    model: Recformer
    samples: Samples
    batch_size: int
    """Samples of a step over all ranks."""
    objective: ObjectiveOfStep
    validation: Validation
    encode_steps: int
    """Steps between two encodings of all items; 0: never, the second stage."""
    score: str = "ndcg@10"
    count: TokenCount = field(default_factory=TokenCount)
    frozen: Tensor | None = None
    """(V, D): the frozen item matrix; None until it is first needed."""

    @classmethod
    def of(
        cls,
        fabric: Fabric,
        model: nn.Module,
        config: TrainConfig,
        data: Dataset,
        *,
        second: bool,
    ) -> "TwoStageTask":
        """A stage for this rank. Raises InputError where the dataset has nothing to learn from."""
        assert isinstance(model, Recformer)
        assert isinstance(config.recformer, TwoStageConfig)
        samples = Samples.of(data, config.seed, empty_histories=config.recformer.empty_histories)
        _, rows = rows_between(samples.starts, samples.ends)
        counts_N = np.bincount(data.items[rows], minlength=data.schema.num_items + 1)[1:]
        batch_size = config.batch_size * fabric.world_size
        epoch = -(-len(samples) // batch_size)
        return cls(
            fabric,
            model,
            samples,
            batch_size,
            objective_of_step(config, counts_N, fabric.device),
            Validation.of(
                data,
                config.validation_users,
                config.seed,
                (fabric.global_rank, fabric.world_size),
            ),
            0 if second else config.recformer.encode_every * epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show one sample of every user."""
        return -(-len(self.samples) // self.batch_size)

    def batches(self, step: int) -> Iterator[HistoryBatch]:
        """Histories, each with one target."""
        model, rank, ranks = self.model, self.fabric.global_rank, self.fabric.world_size
        while True:
            epoch, within = divmod(step, self.steps_per_epoch)
            order, targets_U = self.samples.epoch(epoch)
            for first in range(within * self.batch_size, len(order), self.batch_size):
                users = order[first : first + self.batch_size]
                users = np.resize(users, max(len(users), ranks))[rank::ranks]
                yield self.samples.history_batch(
                    users, targets_U, model.history_inputs, model.max_len
                )
                step += 1

    def loss(self, model: Recformer, batch: HistoryBatch, step: int) -> Tensor:
        """The step's objective against the frozen item matrix."""
        if self.encode_steps and step % self.encode_steps == 0:
            self.model.freeze_items()
            self.frozen = None
        self.count.add(batch.token_items, self.model.encoder.max_tokens)
        items = ItemBatch(torch.empty(0), {VECTOR: self.matrix()})
        return model.loss(replace(batch, catalogue=items), self.objective(step))

    def matrix(self) -> Tensor:
        """(V, D), encoded by the weights that the model keeps for items."""
        if self.frozen is None:
            started = time.monotonic()
            self.model.eval()
            with torch.no_grad(), self.fabric.autocast():
                data = self.validation.dataset
                self.frozen = encode_all_items(self.model, data, self.fabric.device).float()
            self.model.train()
            self.count.since += time.monotonic() - started
        return self.frozen

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10 with the frozen item matrix, and what was read a second."""
        assert isinstance(model, Recformer)
        figures = self.count.take()
        scores = self.validation.scores(self.fabric, model, self.matrix())
        self.count.since = time.monotonic()
        return {**scores, **figures}
