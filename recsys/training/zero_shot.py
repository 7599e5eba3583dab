"""No training: a model as it was made elsewhere, scored on a dataset that it has not seen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from features.store import Dataset
from recsys.models.recformer import Recformer
from recsys.training.config import TrainConfig
from recsys.training.validation import Validation


@dataclass(frozen=True, slots=True)
class ZeroShotTask:
    """A `recsys.training.task.Task` of no steps: its one validation is the whole run."""

    fabric: Fabric
    validation: Validation
    score: str = "ndcg@10"
    steps_per_epoch: int = 0

    @classmethod
    def of(cls, fabric: Fabric, config: TrainConfig, data: Dataset) -> "ZeroShotTask":
        """The task of this rank. Raises InputError where there is nothing to validate on."""
        ranks = (fabric.global_rank, fabric.world_size)
        return cls(fabric, Validation.of(data, config.validation_users, config.seed, ranks))

    def batches(self, step: int) -> Iterator[Any]:
        """None."""
        return iter(())

    def loss(self, model: Any, batch: Any, step: int) -> Tensor:
        """Never called."""
        raise NotImplementedError

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10, items and histories encoded by the same weights."""
        assert isinstance(model, Recformer)
        model.freeze_items()
        return self.validation.scores(self.fabric, model)
