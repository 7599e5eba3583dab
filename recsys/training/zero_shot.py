"""No training: a model as it was made elsewhere, scored on a dataset that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from recsys.models.recformer import Recformer
from recsys.training.no_steps import NoStepsTask


@dataclass(frozen=True, slots=True)
class ZeroShotTask(NoStepsTask):
    """A Recformer scored as it is."""

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10, items and histories encoded by the same weights."""
        assert isinstance(model, Recformer)
        model.freeze_items()
        return self.validation.scores(self.fabric, model)
