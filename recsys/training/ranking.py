"""How a ranker is trained: the item chosen at a moment beside items that were not, by log-loss.

A batch holds B moments; the history of each is encoded once and its C candidates share it. Position
0 of the candidates is the target.

Another kind of example (real impressions, several tasks with sample spaces of their own) is another
`ExampleStream` and other `Examples`; the task, the loop and the figures stay.

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

from features.encode import encode_histories
from features.errors import InputError
from features.layout import Split
from features.store import Dataset
from offline_eval.probabilities import auc_by_group, gauc, log_loss
from recsys.models.interface import HistoryBatch, ItemBatch, Ranker, RankingBatch
from recsys.training.batches import epoch_order
from recsys.training.config import AutoConfig, RankingConfig, TrainConfig
from recsys.training.moments import Chosen, Moments, NegativeSampler, training_moments

STREAM, HELD_OUT = 3, 4
"""Keep these draws apart from others of the same seed."""
CELLS = 1 << 20
"""Events x candidates scored at once when measuring."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """R moments with candidates (R, C), 0 where there is none, and labels and known (R, C, T)."""

    moments: Moments
    candidates: Ints
    labels: Floats
    known: NDArray[np.bool_]

    def take(self, rows: Ints | slice) -> "Examples":
        """Some of the moments."""
        return Examples(
            self.moments.take(rows), self.candidates[rows], self.labels[rows], self.known[rows]
        )

    @classmethod
    def sampled(cls, data: Dataset, moments: Moments, negatives_RN: Ints) -> "Examples":
        """One task: the target has label 1, the sampled items 0."""
        targets_R1 = data.items[moments.rows].astype(np.int64)[:, None]
        candidates_RC = np.concatenate([targets_R1, negatives_RN], 1)
        labels_RCT = np.zeros((*candidates_RC.shape, 1), np.float32)
        labels_RCT[:, 0] = 1
        return cls(moments, candidates_RC, labels_RCT, (candidates_RC > 0)[..., None])

    def batch(self, data: Dataset, model: Ranker) -> RankingBatch:
        """As tensors, with the inputs that `model` names."""
        inputs = encode_histories(
            self.moments.histories(data), model.history_inputs, model.max_len, data.item_table
        )
        history = HistoryBatch.of({name: torch.from_numpy(x) for name, x in inputs.items()})
        attributes = {
            name: torch.from_numpy(data.item_table[name][self.candidates])
            for name in model.item_inputs
        }
        return RankingBatch(
            history,
            ItemBatch(torch.from_numpy(self.candidates), attributes),
            torch.from_numpy(self.labels),
            torch.from_numpy(self.known),
        )


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
    moments: Moments
    sampler: NegativeSampler
    batch_size: int
    seed: int
    ranks: tuple[int, int]
    """Rank, world size."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each moment once, over all ranks."""
        return -(-len(self.moments) // (self.batch_size * self.ranks[1]))

    def from_step(self, step: int) -> Iterator[RankingBatch]:
        """Moments of like history length together; what is drawn depends on seed and step alone."""
        length_R = np.minimum(self.moments.cuts - self.moments.starts, self.model.max_len)
        rank, world = self.ranks
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            for chosen in epoch_order(length_R, self.batch_size * world, self.seed, epoch)[first:]:
                rows = np.resize(chosen, max(len(chosen), world))[rank::world]
                yield self.batch(rows, step)
                step += 1

    def batch(self, rows: Ints, step: int) -> RankingBatch:
        """The moments `rows` with the negatives of `step`."""
        moments = self.moments.take(rows)
        draw = np.random.default_rng([self.seed, STREAM, step, self.ranks[0]])
        examples = Examples.sampled(self.data, moments, self.sampler.draw(moments, draw))
        return examples.batch(self.data, self.model)


def held_out_examples(
    data: Dataset, split: Split, config: RankingConfig, seed: int, max_users: int | None = None
) -> Examples:
    """The examples of `validation` or `test`: the same for every model and every run of a seed.

    Each history holds all events before the target, those of the split itself included. At most
    `max_users` users, drawn at random. Raises InputError where there is none.
    """
    moments = Moments.of(data, config, data.cuts[f"{split}_start"], data.cuts[f"{split}_end"])
    if not len(moments):
        raise InputError(
            f"the {split} split of {data.path} has no event of {list(data.schema.target_events)} "
            f"with {config.min_history} events before it: choose another split"
        )
    draw = np.random.default_rng([seed, HELD_OUT])
    users = np.unique(moments.users)
    if max_users is not None and max_users < len(users):
        chosen = draw.permutation(users)[:max_users]
        moments = moments.take(np.flatnonzero(np.isin(moments.users, chosen)))
    ends = np.maximum(data.cuts["test_end"], data.cuts["validation_end"])
    sampler = NegativeSampler(data, config, Chosen(data, ends))
    return Examples.sampled(data, moments, sampler.draw(moments, draw))


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

    With several tasks also the AUC of each, as `auc.<task>`.
    """
    users_RC = np.broadcast_to(examples.moments.users[:, None], examples.candidates.shape)
    found: dict[str, list[float]] = {"auc": [], "gauc": [], "log_loss": []}
    for t in range(len(tasks)):
        known_RC = examples.known[..., t]
        labels_N = examples.labels[..., t][known_RC] > 0.5
        scores_N = scores_RCT[..., t][known_RC].astype(np.float64)
        users_N = users_RC[known_RC]
        found["auc"].append(float(auc_by_group(labels_N, scores_N, np.zeros_like(users_N))[0][0]))
        found["gauc"].append(gauc(labels_N, scores_N, users_N))
        found["log_loss"].append(float(log_loss(labels_N, probabilities(scores_N)).mean()))
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    if len(tasks) > 1:
        means |= {f"auc.{task}": found["auc"][t] for t, task in enumerate(tasks)}
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
        stream = SampledStream(
            data,
            model,
            training_moments(data, config.ranking),
            NegativeSampler(data, config.ranking, Chosen(data, data.cuts["train_end"])),
            config.batch_size,
            config.seed,
            (fabric.global_rank, fabric.world_size),
        )
        validation = held_out_examples(
            data, "validation", config.ranking, config.seed, config.validation_users
        )
        return cls(fabric, data, stream, validation)

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
        return figures(self.validation, mine, model.tasks)
