"""A task of no steps: the model is what it was made to be, and its one validation is the run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from lightning_fabric import Fabric
from torch import Tensor, nn

from features.store import Dataset
from recsys.models.interface import Retriever
from recsys.training.config import TrainConfig
from recsys.training.validation import Validation


@dataclass(frozen=True, slots=True)
class NoStepsTask:
    """A `recsys.training.task.Task` for retrievers that learn nothing here."""

    fabric: Fabric
    validation: Validation
    score: str = "ndcg@10"
    steps_per_epoch: int = 0

    @classmethod
    def of(cls, fabric: Fabric, config: TrainConfig, data: Dataset) -> Self:
        """The task of this rank. Raises InputError where there is nothing to validate on."""
        ranks = (fabric.global_rank, fabric.world_size)
        return cls(fabric, Validation.of(data, config.validation_users, config.seed, ranks))

    def batches(self, step: int) -> Iterator[Any]:
        """None."""
        return iter(())

    def loss(self, model: Any, batch: Any, step: int) -> Tensor:
        """Never called: there is no batch."""
        raise NotImplementedError

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10."""
        assert isinstance(model, Retriever)
        return self.validation.scores(self.fabric, model)
