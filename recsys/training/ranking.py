"""How a ranker is trained: items met at a moment beside items that were not, by log-loss.

`recsys.training.examples` says what a batch holds.

Shape suffixes: B moments of a batch, R all moments, C candidates, T tasks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from features.errors import InputError
from features.store import Dataset
from offline_eval.probabilities import auc_by_group, gauc, log_loss, reliability
from recsys.models.interface import Ranker, RankingBatch
from recsys.models.multi_task import MultiTask
from recsys.training.batches import epoch_order
from recsys.training.config import AutoConfig, TrainConfig
from recsys.training.examples import Examples, held_out_examples, training_examples
from recsys.training.gradients import cosines_of
from recsys.training.labels import check_labels
from recsys.training.moments import Chosen, Moments, NegativeSampler
from recsys.training.task_config import TaskConfig

STREAM = 3
"""Keeps the draws of negatives apart from others of the same seed."""
CELLS = 1 << 20
"""Events x candidates scored at once when measuring."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class ExampleStream(Protocol):
    """Training examples by step, of one rank."""

    @property
    def steps_per_epoch(self) -> int: ...  # noqa: D102
    def from_step(self, step: int) -> Iterator[RankingBatch]:
        """The batches of steps `step`, `step + 1`, ... without end (the first step is 0)."""
        ...


@dataclass(frozen=True, slots=True)
class SampledStream:
    """Every training moment once an epoch, with fresh negatives."""

    data: Dataset
    model: Ranker
    examples: Examples
    sampler: NegativeSampler
    tasks: tuple[TaskConfig, ...]
    batch_size: int
    seed: int
    ranks: tuple[int, int]
    """Rank, world size."""

    @property
    def moments(self) -> Moments:
        """The training moments."""
        return self.examples.moments

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each moment once, over all ranks."""
        return -(-len(self.examples.moments) // (self.batch_size * self.ranks[1]))

    def from_step(self, step: int) -> Iterator[RankingBatch]:
        """Moments of like history length together; what is drawn depends on seed and step alone."""
        moments = self.examples.moments
        length_R = np.minimum(moments.cuts - moments.starts, self.model.max_len)
        rank, world = self.ranks
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            for chosen in epoch_order(length_R, self.batch_size * world, self.seed, epoch)[first:]:
                rows = np.resize(chosen, max(len(chosen), world))[rank::world]
                yield self.batch(rows, step)
                step += 1

    def batch(self, rows: Ints, step: int) -> RankingBatch:
        """The moments `rows` with the negatives of `step`."""
        examples = self.examples.take(rows)
        draw = np.random.default_rng([self.seed, STREAM, step, self.ranks[0]])
        drawn_RN = self.sampler.draw(examples.moments, draw)
        return examples.beside(drawn_RN, self.tasks).batch(self.data, self.model)


def predict(
    model: Ranker,
    data: Dataset,
    examples: Examples,
    device: torch.device,
    ranks: tuple[int, int] = (0, 1),
) -> Floats:
    """Log-odds (R, C, T) of all candidates; padding too, whatever it gives.

    ranks: this one of how many. Each scores a share of every block, 0 elsewhere, all in as many
    steps: a model whose tables are spread over ranks needs all of them for every lookup.
    """
    rank, world = ranks
    length_R = np.minimum(examples.moments.cuts - examples.moments.starts, model.max_len)
    order = np.argsort(length_R, kind="stable")
    scores_RCT = np.zeros(examples.labels.shape, np.float32)
    first = 0
    while first < len(order):
        width = examples.candidates.shape[1]
        longest = max(int(length_R[order[min(first + 4096, len(order) - 1)]]), 1)
        rows = order[first : first + max(CELLS // (longest * width), 16) * world]
        mine = np.resize(rows, max(len(rows), world))[rank::world]
        batch = examples.take(mine).batch(data, model).to(device)
        with torch.no_grad():  # sharded lookups know no inference mode
            scores = model.score(batch.history, batch.candidates)
        if rank < len(rows):
            scores_RCT[mine] = scores.float().cpu().numpy()
        first += len(rows)
    return scores_RCT


def figures(examples: Examples, scores_RCT: Floats, tasks: tuple[str, ...]) -> dict[str, float]:
    """AUC over all labels, GAUC (by user, weighted by labels) and log-loss, averaged over tasks.

    With several tasks also those of each, as `auc.<task>`, and the expected calibration error, in
    15 bins of equally many labels.
    """
    users_RC = np.broadcast_to(examples.moments.users[:, None], examples.candidates.shape)
    found: dict[str, list[float]] = {"auc": [], "gauc": [], "log_loss": [], "ece": []}
    for t in range(len(tasks)):
        known_RC = examples.known[..., t]
        labels_N = examples.labels[..., t][known_RC] > 0.5
        scores_N = scores_RCT[..., t][known_RC].astype(np.float64)
        users_N = users_RC[known_RC]
        found["auc"].append(float(auc_by_group(labels_N, scores_N, np.zeros_like(users_N))[0][0]))
        found["gauc"].append(gauc(labels_N, scores_N, users_N))
        p_N = probabilities(scores_N)
        found["log_loss"].append(float(log_loss(labels_N, p_N).mean()))
        found["ece"].append(reliability(labels_N, p_N, binning="mass").error)
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    if len(tasks) > 1:
        each = [(f"{name}.{task}", values[t])
                for name, values in found.items() for t, task in enumerate(tasks)]  # fmt: skip
        means |= {name: value for name, value in each if not np.isnan(value)}
    return means


def probabilities(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function."""
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


@dataclass(frozen=True, slots=True)
class RankingTask:
    """Point-wise ranking; a `recsys.training.task.Task`."""

    fabric: Fabric
    data: Dataset
    stream: ExampleStream
    validation: Examples
    watches: bool = False
    """Whether validations also tell the cosines of the tasks' gradients."""
    score: str = "auc"

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
    ) -> "RankingTask":
        """The task of this rank. Raises InputError where the dataset has nothing to learn from."""
        assert isinstance(model, Ranker), "the registry calls this kind a ranker"
        if not isinstance(config.objective, AutoConfig):
            raise InputError(
                f"train.objective = {config.objective.name!r} is for retrievers: delete the key, "
                f"a ranker is set up by [train.ranking]"
            )
        ranking = config.ranking
        names = tuple(task.name for task in ranking.tasks) or ("target",)
        if model.tasks != names:
            raise InputError(
                f"train.ranking.tasks are {list(names)}, the model predicts {list(model.tasks)}: "
                f"choose a model of several tasks (dtrn, multi_task), or leave the tasks out"
            )
        examples = training_examples(data, ranking)
        check_labels(
            "the training part",
            ranking.tasks,
            examples.labels > 0,
            examples.known,
            drawn=ranking.negatives,
        )
        stream = SampledStream(
            data,
            model,
            examples,
            NegativeSampler(data, ranking, Chosen(data, data.cuts["train_end"])),
            ranking.tasks,
            config.batch_size,
            config.seed,
            (fabric.global_rank, fabric.world_size),
        )
        validation = held_out_examples(
            data, "validation", config.ranking, config.seed, config.validation_users
        )
        return cls(fabric, data, stream, validation, ranking.watch_gradients)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each moment once, over all ranks."""
        return self.stream.steps_per_epoch

    def batches(self, step: int) -> Iterator[RankingBatch]:
        """Moments with candidates."""
        return self.stream.from_step(step)

    def loss(self, model: Ranker, batch: RankingBatch, step: int) -> Tensor:
        """The model's own loss."""
        return model.loss(batch)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """AUC, GAUC and log-loss over the validation examples; each rank scores its share."""
        assert isinstance(model, Ranker)
        ranks, device = (self.fabric.global_rank, self.fabric.world_size), self.fabric.device
        model.eval()
        with self.fabric.autocast():
            mine = predict(model, self.data, self.validation, device, ranks)
        model.train()
        if ranks[1] > 1:
            total = self.fabric.all_reduce(torch.from_numpy(mine).to(device), reduce_op="sum")
            mine = torch.as_tensor(total).cpu().numpy()
        found = figures(self.validation, mine, model.tasks)
        if self.watches and isinstance(model, MultiTask):
            found |= cosines_of(model, self.stream.from_step(0), device)
        return found
