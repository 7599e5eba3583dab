"""How a retriever is trained: the items that follow, against the catalogue or a sample of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from features.errors import InputError
from features.store import Dataset
from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.training.batches import TrainingBatches
from recsys.training.config import TrainConfig
from recsys.training.negatives import (
    ObjectiveOfStep,
    objective_of_step,
    refuse_large_catalogue,
)
from recsys.training.validation import Validation


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Next-item prediction; a `recsys.training.task.Task`."""

    fabric: Fabric
    stream: TrainingBatches
    objective: ObjectiveOfStep
    validation: Validation
    catalogue: ItemBatch | None
    """All items on the device, for models that read item attributes."""
    score: str = "ndcg@10"

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
    ) -> "RetrievalTask":
        """The task of this rank. Raises InputError where the dataset has nothing to learn from."""
        assert isinstance(model, Retriever), "the registry calls this kind a retriever"
        if model.item_inputs:
            refuse_large_catalogue(config.objective, data.schema.num_items, model.dim)
        ranks = (fabric.global_rank, fabric.world_size)
        # the model makes the vectors itself, with gradient, from the catalogue
        inputs = tuple(name for name in model.history_inputs if name != "item.vector")
        stream = TrainingBatches.of(data, config, inputs, model.max_len, ranks)
        return cls(
            fabric,
            stream,
            objective_of_step(config, stream.item_counts(), fabric.device),
            Validation.of(
                data, config.validation_users, config.seed, ranks, repeats=config.repeats
            ),
            catalogue_of(data, model.item_inputs, fabric.device),
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each window once, over all ranks."""
        return self.stream.steps_per_epoch

    def batches(self, step: int) -> Iterator[HistoryBatch]:
        """Windows of histories with the item after each position."""
        if self.catalogue is None:
            return self.stream.from_step(step)
        return (replace(b, catalogue=self.catalogue) for b in self.stream.from_step(step))

    def loss(self, model: Retriever, batch: HistoryBatch, step: int) -> Tensor:
        """The step's objective over the batch's targets."""
        return model.loss(batch, self.objective(step))

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10 over all items that the history does not hold."""
        assert isinstance(model, Retriever)
        return self.validation.scores(self.fabric, model)


def catalogue_of(
    data: Dataset, item_inputs: tuple[str, ...], device: torch.device
) -> ItemBatch | None:
    """The items 0..N with the attributes a model reads; None where it reads none.

    Raises InputError for an attribute that the dataset lacks.
    """
    if not item_inputs:
        return None
    if missing := sorted(set(item_inputs) - data.item_table.keys()):
        raise InputError(
            f"the model reads item attributes {missing}, {data.path} has "
            f"{sorted(data.item_table)}: declare them in [features] and build the dataset again"
        )
    ids = torch.arange(data.schema.num_items + 1)
    attributes = {name: torch.from_numpy(data.item_table[name].copy()) for name in item_inputs}
    return ItemBatch(ids, attributes).to(device)
