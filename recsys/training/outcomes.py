"""How an outcome model is trained: on labels, or before that on masked tokens and order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from features.errors import InputError
from features.life_encode import assemble, encode_documents, gather_events, token_counts
from features.life_store import Lives
from offline_eval.positive_unlabelled import aul
from recsys.models.outcome_heads import OutcomeShape
from recsys.models.outcome_interface import LifeBatch, OutcomeModel
from recsys.training.batches import epoch_order
from recsys.training.config import TrainConfig
from recsys.training.life_augment import mask_tokens, reorder, vary

VALIDATION = 1
"""Keeps the draws that hide tokens for validation apart from those of training."""
Ints = NDArray[np.int64]


def lives_facts(data: Lives) -> dict[str, Any]:
    """What a model may need to know of a dataset of lives to choose its sizes."""
    schema = data.schema
    return {
        "num_tokens": schema.num_tokens,
        "num_prefix": schema.num_prefix,
        "outcomes": tuple(OutcomeShape(o.kind, o.classes) for o in schema.outcomes),
        "vocabulary": schema.vocabulary_hash,
    }


def life_batch(inputs: Mapping[str, NDArray], **more: NDArray) -> LifeBatch:
    """Encoded documents as tensors."""
    arrays = {**inputs, **more}
    return LifeBatch(**{name: torch.from_numpy(x) for name, x in arrays.items()})


@dataclass(frozen=True, slots=True)
class OutcomeTask:
    """Labels of the training cases; a `recsys.training.task.Task`."""

    fabric: Fabric
    data: Lives
    config: TrainConfig
    max_len: int
    train: Ints
    """Rows of the cases to learn from."""
    held: Ints
    """Rows of this rank's validation cases."""

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, data: Lives
    ) -> "OutcomeTask":
        """The task of this rank. Raises InputError where the dataset has nothing to learn from."""
        assert isinstance(model, OutcomeModel), "the registry calls this kind an outcome model"
        draw = np.random.default_rng(config.seed)
        train, held = data.rows("train"), data.rows("validation")
        if limit := config.life.max_cases:
            train = np.sort(draw.permutation(train)[:limit])
        held = np.sort(draw.permutation(held)[: config.validation_users])
        if not len(train) or not len(held):
            raise InputError(f"{data.path}: {len(train)} training and {len(held)} validation cases")
        held = held[fabric.global_rank :: fabric.world_size]
        if config.life.task == "pretraining":
            return PretrainingTask(fabric, data, config, model.max_len, train, held)
        _refuse_one_class(data, train)
        return cls(fabric, data, config, model.max_len, train, held)

    @property
    def score(self) -> str:
        """AUL where every outcome is binary, else the loss."""
        binary = all(outcome.classes == 2 for outcome in self.data.schema.outcomes)
        return "aul" if binary else "minus_loss"

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each case once, over all ranks."""
        return -(-len(self.train) // (self.config.batch_size * self.fabric.world_size))

    def batches(self, step: int) -> Iterator[LifeBatch]:
        """The batches of steps `step`, `step + 1`, ..."""
        fabric, seed = self.fabric, self.config.seed
        size = self.config.batch_size * fabric.world_size
        lengths = np.minimum(token_counts(self.data.documents(self.train)), self.max_len)
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            cases = self.epoch_cases(epoch)
            for rows in epoch_order(lengths[cases], size, seed, epoch)[first:]:
                mine = (
                    rows if len(rows) >= fabric.world_size else np.resize(rows, fabric.world_size)
                )
                mine = self.train[cases[mine[fabric.global_rank :: fabric.world_size]]]
                yield self.batch(mine, np.random.default_rng([seed, step, fabric.global_rank]))
                step += 1

    def epoch_cases(self, epoch: int) -> Ints:
        """Places in `train` of an epoch: each once, or as many of every class."""
        if self.config.life.sampler == "all":
            return np.arange(len(self.train))
        label = self.data.labels(self.train)[:, 0]
        known = np.flatnonzero(~np.isnan(label))
        _, code, count = np.unique(label[known], return_inverse=True, return_counts=True)
        chance = 1 / count[code]
        draw = np.random.default_rng([self.config.seed, epoch])
        return draw.choice(known, len(self.train), p=chance / chance.sum())

    def batch(self, rows: Ints, draw: np.random.Generator) -> LifeBatch:
        """The cases `rows`, varied, with their labels."""
        documents = self.data.documents(rows)
        block = gather_events(documents, self.data.schema, self.max_len)
        inputs = assemble(vary(block, self.config.life, draw), self.max_len)
        return life_batch(inputs, labels=self.data.labels(rows))

    def loss(self, model: Any, batch: LifeBatch, step: int) -> Tensor:
        """Mean loss of the outcomes; at the start of an epoch random features are drawn anew."""
        self.redraw(model, step)
        return model.loss(batch)

    def redraw(self, model: Any, step: int) -> None:
        """Draw the same new features on every rank when it is time."""
        every = self.config.life.redraw_epochs * self.steps_per_epoch
        if every and step and step % every == 0 and hasattr(model, "redraw"):
            model.redraw(torch.Generator().manual_seed(self.config.seed * 1_000_003 + step))

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """AUL of each binary outcome, their mean, and the loss, over the cases of all ranks."""
        assert isinstance(model, OutcomeModel)
        probabilities, losses = [], []
        size = self.config.batch_size
        order = np.argsort(token_counts(self.data.documents(self.held)), kind="stable")
        held = self.held[order]
        model.eval()
        with torch.inference_mode(), self.fabric.autocast():
            for first in range(0, len(held), size):
                rows = held[first : first + size]
                inputs = encode_documents(self.data.documents(rows), self.data.schema, self.max_len)
                batch = life_batch(inputs, labels=self.data.labels(rows)).to(self.fabric.device)
                probabilities.append(model.predict(batch)[0].float())
                losses.append(model.loss(batch).float() * len(rows))
        model.train()
        found = torch.cat(probabilities).cpu().numpy()
        loss = float(torch.stack(losses).sum()) / len(held)
        return self._scores(found, self.data.labels(held), loss)

    def _scores(
        self, found: NDArray[np.float32], labels: NDArray[np.float32], loss: float
    ) -> Mapping[str, float]:
        local = torch.tensor(
            [loss * len(labels), len(labels)], dtype=torch.float64, device=self.fabric.device
        )
        total, count = torch.as_tensor(self.fabric.all_reduce(local, reduce_op="sum")).tolist()
        loss = total / count
        found, labels = self._gathered(found), self._gathered(labels)
        scores, column = dict[str, float](), 0
        for t, outcome in enumerate(self.data.schema.outcomes):
            if outcome.classes == 2 and len(outcome.columns) == 1:
                known = ~np.isnan(labels[:, t])
                positive = labels[known, t] > 0
                if positive.any() and not positive.all():
                    scores[f"aul_{outcome.name}"] = aul(
                        positive, found[known, column].astype(np.float64)
                    )
            column += len(outcome.columns)
        mean = float(np.mean(list(scores.values()))) if scores else 0.5
        return {**scores, "aul": mean, "validation_loss": loss, "minus_loss": -loss}

    def _gathered(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows of all ranks; where a rank has one less, a filler is added and dropped."""
        if self.fabric.world_size == 1:
            return values
        longest = -(-self._num_held() // self.fabric.world_size)
        padded = np.full((longest, values.shape[1]), np.inf, np.float32)
        padded[: len(values)] = values
        gathered = self.fabric.all_gather(torch.from_numpy(padded).to(self.fabric.device))
        rows = torch.as_tensor(gathered).flatten(0, 1).cpu().numpy()
        return rows[~np.isinf(rows).all(axis=1)]

    def _num_held(self) -> int:
        return min(len(self.data.rows("validation")), self.config.validation_users)


class PretrainingTask(OutcomeTask):
    """Masked tokens and the order of events; labels are not looked at."""

    __slots__ = ()

    @property
    def score(self) -> str:
        """The loss, negated: higher is better."""
        return "minus_loss"

    def batch(self, rows: Ints, draw: np.random.Generator) -> LifeBatch:
        """The cases `rows`, varied, some told out of order, with tokens hidden."""
        documents, life = self.data.documents(rows), self.config.life
        block = gather_events(documents, self.data.schema, self.max_len)
        block, orders = reorder(vary(block, life, draw), life, draw)
        inputs = assemble(block, self.max_len)
        num_tokens = self.data.schema.num_tokens
        inputs["tokens"], masked = mask_tokens(inputs["tokens"], num_tokens, life.masked, draw)
        return life_batch(inputs, masked=masked, orders=orders)

    def loss(self, model: Any, batch: LifeBatch, step: int) -> Tensor:
        """The weighted loss of both tasks."""
        self.redraw(model, step)
        if hasattr(model, "mark_forward_method"):
            model.mark_forward_method("pretraining_loss")
        return model.pretraining_loss(batch)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """The loss over validation cases, hidden the same way each time, and the share of hidden
        tokens that is guessed.
        """
        loss = guessed = hidden = batches = 0.0
        size = self.config.batch_size
        model.eval()
        with torch.inference_mode(), self.fabric.autocast():
            for first in range(0, len(self.held), size):
                draw = np.random.default_rng([self.config.seed, VALIDATION, first])
                batch = self.batch(self.held[first : first + size], draw)
                found = model.masked_tokens(batch.to(self.fabric.device))  # type: ignore[operator]
                loss += float(found[0])
                guessed += float(found[1])
                hidden += float(found[2])
                batches += 1
        model.train()
        local = torch.tensor([loss, guessed, hidden, batches], dtype=torch.float64)
        summed = self.fabric.all_reduce(local.to(self.fabric.device), reduce_op="sum")
        loss, guessed, hidden, batches = torch.as_tensor(summed).tolist()
        loss, accuracy = loss / max(batches, 1), guessed / max(hidden, 1)
        return {"masked_accuracy": accuracy, "validation_loss": loss, "minus_loss": -loss}


def _refuse_one_class(data: Lives, train: Ints) -> None:
    labels = data.labels(train)
    for t, outcome in enumerate(data.schema.outcomes):
        found = np.unique(labels[~np.isnan(labels[:, t]), t])
        if len(found) < 2:
            raise InputError(
                f"{data.path}: outcome {outcome.name} has {len(found)} class among the "
                f"{len(train)} training cases, at least 2 are needed: look at the cohort"
            )
