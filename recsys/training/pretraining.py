"""Pre-training of Recformer on several datasets at once (Sec. 2.3; the authors' `litmodels.py`).

A sample is a history with one of the events of its later half as target. The loss contrasts each
history with the target items of its batch, and names masked tokens of both:

    contrast + lambda (masked tokens of the history + masked tokens of the target)

Departures: other occurrences of a history's own target among the batch are no negatives (a
setting keeps them); masked tokens share the word table with the input, without a bias; the weights
are chosen by NDCG@10 on a dataset that is not trained on, where the authors use the accuracy
within a batch, which depends on its size.

Shape suffixes: B samples of a step, T tokens, S tokens of a sentence, C candidates over all ranks.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from features.encode import SENTENCE, Histories, encode_tokens
from features.errors import InputError
from features.layout import TOKENIZER
from features.store import Dataset
from recsys.models.contrast import Contrast
from recsys.models.recformer import Recformer
from recsys.training.config import TrainConfig
from recsys.training.masking import Masking
from recsys.training.text_config import PretrainingConfig
from recsys.training.token_count import TokenCount
from recsys.training.validation import Validation

STREAM = 4
"""Keeps these draws apart from others of the same seed."""
DATASET_STRIDE = 1 << 40
"""Item ids of the datasets are this far apart, so that none is another's."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Domain:
    """One dataset to learn from: the rows of each training history."""

    dataset: Dataset
    starts: Ints
    ends: Ints

    def samples(self, chance_U: NDArray[np.float64], max_len: int) -> tuple[Histories, Ints]:
        """Histories before a target, and the targets' item ids.

        chance_U: in 0..1, picks among the events from the middle one of a history on.
        """
        length_U = self.ends - self.starts
        least_U = (length_U - 1) // 2
        rows_U = self.starts + least_U + (chance_U * (length_U - least_U)).astype(np.int64)
        data = self.dataset
        starts_U = np.maximum(self.starts, rows_U - max_len)
        histories = Histories(data.items, data.timestamps, data.events, starts_U, rows_U)
        return histories, data.items[rows_U].astype(np.int64)


@dataclass(slots=True)
class PretrainingTask:
    """A `recsys.training.task.Task`."""

    fabric: Fabric
    model: Recformer
    domains: Sequence[Domain]
    masking: Masking
    config: TrainConfig
    validation: Validation
    score: str = "ndcg@10"
    count: TokenCount = field(default_factory=TokenCount)

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
    ) -> "PretrainingTask":
        """The task of this rank; `data` validates. Raises InputError where datasets do not fit."""
        assert isinstance(model, Recformer)
        settings = config.recformer
        assert isinstance(settings, PretrainingConfig)
        tokenizer = _tokenizer(data.path)
        domains = [_open(Path(path), tokenizer) for path in settings.datasets]
        (column,) = [column for column in data.schema.item_columns if column.kind == SENTENCE]
        ranks = (fabric.global_rank, fabric.world_size)
        return cls(
            fabric,
            model,
            domains,
            Masking.of(tokenizer, column.size, column.offset, settings.masked_share),
            config,
            Validation.of(data, config.validation_users, config.seed, ranks),
        )

    @property
    def settings(self) -> PretrainingConfig:
        """The part of the configuration that is about this."""
        assert isinstance(self.config.recformer, PretrainingConfig)
        return self.config.recformer

    @property
    def steps_per_pass(self) -> int:
        """Steps that show a sample of every history."""
        size = self.config.batch_size * self.fabric.world_size
        return -(-sum(len(domain.starts) for domain in self.domains) // size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps between two validations, at the least."""
        return self.settings.epoch_steps or self.steps_per_pass

    def batches(self, step: int) -> Iterator[Contrast]:
        """Samples of all datasets, mixed."""
        size = self.config.batch_size * self.fabric.world_size
        owner = np.repeat(np.arange(len(self.domains)), [len(d.starts) for d in self.domains])
        within = np.concatenate([np.arange(len(d.starts)) for d in self.domains])
        while True:
            epoch, start = divmod(step, self.steps_per_pass)
            order = np.random.default_rng([self.config.seed, STREAM, epoch]).permutation(len(owner))
            order = np.resize(order, self.steps_per_pass * size)  # every batch is whole
            for first in range(start * size, len(order), size):
                rows = order[first : first + size][
                    self.fabric.global_rank :: self.fabric.world_size
                ]
                yield self.batch(owner[rows], within[rows], step)
                step += 1

    def batch(self, owner_B: Ints, within_B: Ints, step: int) -> Contrast:
        """The samples of histories `within_B` of the datasets `owner_B`."""
        draw = np.random.default_rng([self.config.seed, STREAM, step, self.fabric.global_rank])
        tokens, token_items, sentences, ids = [], [], [], []
        for number, domain in enumerate(self.domains):
            rows = within_B[owner_B == number]
            if not len(rows):
                continue
            chosen = Domain(domain.dataset, domain.starts[rows], domain.ends[rows])
            histories, items = chosen.samples(draw.random(len(rows)), self.model.max_len)
            table = domain.dataset.item_table[SENTENCE]
            encoded = encode_tokens(histories, self.model.max_len, table)
            tokens.append(encoded["tokens"])
            token_items.append(encoded["token_items"])
            sentences.append(np.pad(table[items], ((0, 0), (1, 0))).astype(np.int64))
            ids.append(items + number * DATASET_STRIDE)
        most = self.model.encoder.max_tokens
        batch = Contrast(
            _joined(tokens)[:, :most],
            _joined(token_items)[:, :most],
            _joined(sentences)[:, :most],
            torch.from_numpy(np.concatenate(ids)),
        )
        if not self.settings.masked_weight:
            return batch
        noise = torch.Generator().manual_seed(int(draw.integers(2**62)))
        return replace(
            batch,
            history=self.masking.mask(batch.tokens, batch.items, noise),
            named=self.masking.mask(batch.target, (batch.target != 0).long(), noise),
        )

    def loss(self, model: Recformer, batch: Contrast, step: int) -> Tensor:
        """Contrast and masked tokens, in nats."""
        most = self.model.encoder.max_tokens
        self.count.add(batch.items, most)
        self.count.add((batch.target != 0).long(), most)
        if isinstance(model, nn.Module) and hasattr(model, "mark_forward_method"):
            model.mark_forward_method("pretraining_loss")  # pyright: ignore[reportCallIssue]
        return model.pretraining_loss(
            batch,
            self._gather,
            masked_weight=self.settings.masked_weight,
            keep_duplicates=self.settings.keep_duplicates,
        )

    def _gather(self, own: Tensor) -> Tensor:
        """Of every rank, this one's rows first."""
        if self.fabric.world_size == 1:
            return own
        parts = list(torch.as_tensor(self.fabric.all_gather(own)))
        parts.insert(0, parts.pop(self.fabric.global_rank))
        return torch.cat(parts)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Zero-shot HR@10 and NDCG@10 on the dataset that validates, and what was read a second."""
        assert isinstance(model, Recformer)
        figures = self.count.take()
        model.freeze_items()
        scores = self.validation.scores(self.fabric, model)
        self.count.since = time.monotonic()
        return {**scores, **figures}


def _joined(parts: Sequence[NDArray[np.int64]]) -> Tensor:
    """Rows of all parts, padded with 0 to the widest."""
    widest = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1]))) for part in parts]
    return torch.from_numpy(np.concatenate(padded))


def _tokenizer(path: Path) -> Tokenizer:
    if not (path / TOKENIZER).is_file():
        raise InputError(f"{path} has no {TOKENIZER}: build it with item sentences")
    return Tokenizer.from_file(str(path / TOKENIZER))


def _open(path: Path, tokenizer: Tokenizer) -> Domain:
    """A dataset to learn from; raises InputError unless it has sentences of the same tokens."""
    data = Dataset.open(path)
    if _tokenizer(path).get_vocab() != tokenizer.get_vocab() or SENTENCE not in data.item_table:
        raise InputError(
            f"{path} has no item sentences of the same tokenizer as the dataset that validates: "
            f"build all with sentence = [...] and one tokenizer = '<path of a tokenizer.json>'"
        )
    histories = data.training_histories()
    return Domain(data, histories.starts.astype(np.int64), histories.ends.astype(np.int64))
