"""What a ranker learns from and is measured on: moments, candidates, labels.

A batch holds B moments; the history of each is encoded once and its C candidates share it. First
come the items of the log (one target, or all that was shown at the moment), then those drawn.
`recsys.training.labels` reads several tasks and impressions off the log.

Shape suffixes: B moments of a batch, R all moments, C candidates, N drawn, T tasks, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.encode import encode_histories
from features.errors import InputError
from features.layout import Split
from features.store import Dataset
from recsys.models.interface import HistoryBatch, ItemBatch, Ranker, RankingBatch
from recsys.training.config import RankingConfig
from recsys.training.labels import check_labels, known_labels, labelled_moments
from recsys.training.moments import Chosen, Moments, NegativeSampler
from recsys.training.task_config import TaskConfig

HELD_OUT = 4
"""Keeps these draws apart from others of the same seed."""

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
    def of(cls, data: Dataset, config: RankingConfig, firsts_U: Ints, ends_U: Ints) -> "Examples":
        """What the log holds in rows [firsts, ends) of each user, without items drawn.

        Without tasks: one column, the target, label 1.
        """
        if config.tasks:
            moments, items_RC, labels_RCT = labelled_moments(data, config, firsts_U, ends_U)
            known_RCT = known_labels(config.tasks, items_RC, labels_RCT)
            return cls(moments, items_RC, labels_RCT.astype(np.float32), known_RCT)
        return cls.targets(data, Moments.of(data, config, firsts_U, ends_U))

    @classmethod
    def targets(cls, data: Dataset, moments: Moments) -> "Examples":
        """One task and one candidate, the moment's target, with label 1."""
        targets_R1 = data.items[moments.rows].astype(np.int64)[:, None]
        labels = np.ones((*targets_R1.shape, 1), np.float32)
        return cls(moments, targets_R1, labels, labels > 0)

    @classmethod
    def sampled(cls, data: Dataset, moments: Moments, negatives_RN: Ints) -> "Examples":
        """One task: the target has label 1, the sampled items 0."""
        return cls.targets(data, moments).beside(negatives_RN, ())

    def beside(self, negatives_RN: Ints, tasks: Sequence[TaskConfig]) -> "Examples":
        """With items drawn: label 0, but unknown in the tasks that are `among` another."""
        size = (*negatives_RN.shape, self.labels.shape[2])
        known = np.repeat((negatives_RN > 0)[..., None], size[2], 2)
        for t, task in enumerate(tasks):
            known[..., t] &= not task.among
        return Examples(
            self.moments,
            np.concatenate([self.candidates, negatives_RN], 1),
            np.concatenate([self.labels, np.zeros(size, np.float32)], 1),
            np.concatenate([self.known, known], 1),
        )

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


def held_out_examples(
    data: Dataset, split: Split, config: RankingConfig, seed: int, max_users: int | None = None
) -> Examples:
    """The examples of `validation` or `test`: the same for every model and every run of a seed.

    Each history holds all events before the target, those of the split itself included. At most
    `max_users` users, drawn at random. Raises InputError where there is none.
    """
    examples = Examples.of(data, config, data.cuts[f"{split}_start"], data.cuts[f"{split}_end"])
    moments = examples.moments
    if not len(moments):
        wanted = [config.shown] if config.shown else list(data.schema.target_events)
        raise InputError(
            f"the {split} split of {data.path} has no event of {wanted} "
            f"with {config.min_history} events before it: choose another split"
        )
    draw = np.random.default_rng([seed, HELD_OUT])
    users = np.unique(moments.users)
    if max_users is not None and max_users < len(users):
        chosen = draw.permutation(users)[:max_users]
        examples = examples.take(np.flatnonzero(np.isin(moments.users, chosen)))
    ends = np.maximum(data.cuts["test_end"], data.cuts["validation_end"])
    sampler = NegativeSampler(data, config, Chosen(data, ends))
    whole = examples.beside(sampler.draw(examples.moments, draw), config.tasks)
    check_labels(f"the {split} split", config.tasks, whole.labels > 0, whole.known)
    return whole


def training_examples(data: Dataset, config: RankingConfig) -> Examples:
    """What the training part holds, without items drawn. Raises InputError where it is nothing."""
    found = Examples.of(data, config, data.cuts["start"], data.cuts["train_end"])
    if not len(found.moments):
        wanted = [config.shown] if config.shown else list(data.schema.target_events)
        raise InputError(
            f"{data.path} has no training event of {wanted} with {config.min_history} events "
            f"before it: nothing can be ranked"
        )
    return found
