"""Multi-task ranking over one bottom for all tasks: what DTRN is compared with, and built on.

Bottom: the candidate's fields and, of each behaviour's history, the interest that one transformer
finds in it, the same for every task. Tops are those of `task_heads.py`. `dtrn.py` gives every task
a bottom of its own.

Shape suffixes: B histories, L positions, C candidates, T tasks, G tasks or 1, S behaviours,
F fields, D width, N = B x C rows, W = (F + S) x D.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from recsys.models.interest_fields import FieldEmbedding
from recsys.models.interface import Column, HistoryBatch, ItemBatch, Ranker, RankingBatch, Tensors
from recsys.models.tables import Backend
from recsys.models.task_heads import HEADS, HeadName, HeadSizes, check_esmm
from recsys.models.task_interests import (
    Conditions,
    FreeTable,
    Interests,
    SeparateInterests,
    plain_table,
)
from recsys.models.tasks import TaskSpec, TaskWeights, Weighting, losses_by_task

TABLE_STD = 0.05
"""Of embeddings at the start; a layer norm follows, so only the ratio to positions matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTaskConfig:
    """Sizes of a multi-task ranker."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    event_types: tuple[str, ...]
    """Behaviours; the code of each is its place, from 1."""
    columns: tuple[Column, ...] = ()
    tasks: tuple[TaskSpec, ...] = (TaskSpec(name="target"),)
    max_len: int = 50
    """Most recent events of each behaviour."""
    behaviours: tuple[str, ...] | None = None
    """Behaviours whose histories are read; None: all."""
    fields: tuple[str, ...] | None = None
    """Item columns to embed beside the id; None: all of the kinds category and categories."""
    dim: int = 16
    """Width of a field and of an interest."""
    layers: int = 1
    """Of the transformer."""
    heads: int = 2
    """Of its attention."""
    num_positions: int = 100
    """Ranks of recency with an embedding of their own; older events share the last."""
    head: HeadName = "mmoe"
    sizes: HeadSizes = field(default_factory=HeadSizes)
    """Of the head."""
    weighting: Weighting = "fixed"
    """fixed: as in task_weights. uncertainty: learned noise. gradient: equal norms on what is
    shared."""
    task_weights: tuple[float, ...] = ()
    """Of the tasks' losses, in their order; empty: 1 each."""
    hash_rows: int = 0
    """Rows that item ids are hashed into; 0: a row for each item."""
    tables: Backend = "torch"

    def __post_init__(self) -> None:
        for name in ("max_len", "dim", "layers", "heads", "num_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is no multiple of heads={self.heads}")
        if unknown := sorted(set(self.behaviours or ()) - set(self.event_types)):
            raise ValueError(f"behaviours {unknown} are none of {list(self.event_types)}")
        if self.task_weights and len(self.task_weights) != len(self.tasks):
            raise ValueError(
                f"task_weights={self.task_weights} for {len(self.tasks)} tasks: give one each, or "
                f"none"
            )
        if unknown := sorted(set(self.fields or ()) - {c.name for c in self.columns}):
            raise ValueError(
                f"fields {unknown} are no item columns: choose from "
                f"{[column.name for column in self.columns]}"
            )
        if wrong := [c.name for c in self.used if c.kind not in ("category", "categories")]:
            raise ValueError(f"fields {wrong} are not of kind category or categories")
        if self.head == "esmm":
            check_esmm(self.tasks)

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are embedded."""
        if self.fields is None:
            return tuple(c for c in self.columns if c.kind in ("category", "categories"))
        return tuple(c for c in self.columns if c.name in self.fields)

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of the behaviours that are read."""
        wanted = self.event_types if self.behaviours is None else self.behaviours
        return tuple(1 + self.event_types.index(name) for name in wanted)


class MultiTask(Ranker):
    """Fields and interests of one bottom, a head, and T log-odds."""

    def __init__(self, config: MultiTaskConfig) -> None:
        super().__init__()
        self.config, self.max_len = config, config.max_len
        self.tasks = tuple(task.name for task in config.tasks)
        names = tuple(column.name for column in config.used)
        self.item_inputs = names
        inputs = ["items", *(f"item.{name}" for name in names)]
        self.history_inputs = tuple(f"{x}:{code}" for code in config.codes for x in inputs)
        self.history_items = tuple(f"target:{code}" for code in config.codes)
        self.embedding = FieldEmbedding(config, config.dim, timed=False)
        for table in self.embedding.tables.tables:
            nn.init.normal_(self.embedding.tables.weight(table.name), std=TABLE_STD)
        self.num_fields = 1 + len(names)
        self.blocks = self.num_fields + len(config.codes)
        """Fields and interests."""
        self.interests: Interests | SeparateInterests = self.make_interests()
        self.head = HEADS[config.head](config.tasks, self.blocks * config.dim, config.sizes)
        learned = zip(
            config.task_weights or (1.0,) * len(self.tasks), self.head.learned, strict=True
        )
        self.weights = TaskWeights([w * counts for w, counts in learned], config.weighting)

    def make_interests(self) -> Interests | SeparateInterests:
        """One scale and shift a behaviour and layer norm, whatever the task."""
        config = self.config
        return self.transformer(
            config.codes, plain_table(1, len(config.codes), config.layers, config.dim)
        )

    def transformer(self, codes: Sequence[int], conditions: Conditions) -> Interests:
        """A transformer of the configured sizes."""
        config = self.config
        return Interests(
            codes,
            conditions,
            config.dim,
            layers=config.layers,
            heads=config.heads,
            num_positions=config.num_positions,
        )

    def encode_items(self, items: ItemBatch) -> dict[str, Tensor]:
        """Target (..., F x D): the fields side by side."""
        return {"target": self.embedding(items)}

    def encode_history(self, batch: HistoryBatch, items: Tensors) -> dict[str, Tensor]:
        """What the interests need of the history of each behaviour."""
        codes = self.config.codes
        tokens = {code: self.summed(items[f"target:{code}"]) for code in codes}
        valid = {code: batch.by_behaviour[code].items > 0 for code in codes}
        return self.interests.history(tokens, valid)

    def summed(self, fields: Tensor) -> Tensor:
        """The fields (..., F x D) of an item added up, (..., D): its row in the transformer."""
        return fields.unflatten(-1, (self.num_fields, -1)).sum(-2)

    def rank(self, tensors: Tensors) -> dict[str, Tensor]:
        """Scores (B, C, T)."""
        fields_BCX = tensors["target"]
        x_GBCW = self.representation(tensors, fields_BCX)
        logits_TN = self.head(x_GBCW.flatten(1, 2))
        return {"scores": logits_TN.T.unflatten(0, fields_BCX.shape[:2])}

    def representation(self, tensors: Tensors, fields_BCX: Tensor) -> Tensor:
        """Fields and interests side by side, (G, B, C, W)."""
        interests_GBCSD = self.interests.interests(tensors, self.summed(fields_BCX))
        fields_GBCX = fields_BCX.expand(interests_GBCSD.size(0), -1, -1, -1)
        return torch.cat([fields_GBCX, interests_GBCSD.flatten(-2)], -1)

    def task_losses(self, batch: RankingBatch) -> tuple[Tensor, list[Tensor]]:
        """Mean log-loss of each task (nats), (T,), and the tensors that all tasks share."""
        tensors = self.tensors(batch.history, batch.candidates)
        shared = [x for x in tensors.values() if x.requires_grad]
        scores_BCT = self.rank(tensors)["scores"]
        return losses_by_task(scores_BCT, batch.labels, batch.known), shared

    def loss(self, batch: RankingBatch) -> Tensor:
        """The tasks' losses, weighed."""
        losses_T, shared = self.task_losses(batch)
        return self.weights(losses_T, shared)

    def shared_parameters(self) -> dict[str, list[nn.Parameter]]:
        """By part, the weights that every task's gradient reaches."""
        conditions = {
            id(p)
            for module in self.interests.modules()
            if isinstance(module, Interests)
            for p in module.conditions.parameters()
        }
        transformer = [p for p in self.interests.parameters() if id(p) not in conditions]
        found = {"tables": list(self.embedding.parameters())}
        if isinstance(self.interests, Interests):
            found["transformer"] = transformer
        return found

    def folded(self) -> Self:
        """A copy whose scales and shifts are constants."""
        copy = deepcopy(self)
        for module in copy.modules():
            if isinstance(module, Interests):
                with torch.no_grad():
                    module.conditions = FreeTable(module.conditions())
        return copy
