"""The stages in which Recformer is trained."""

from collections.abc import Sequence
from dataclasses import replace

from lightning_fabric import Fabric
from torch import nn

from features.errors import InputError
from features.store import Dataset
from recsys.models.recformer import Recformer
from recsys.training.config import TrainConfig
from recsys.training.pretraining import PretrainingTask
from recsys.training.task import Stage
from recsys.training.text_config import PretrainingConfig, TwoStageConfig, ZeroShotConfig
from recsys.training.two_stage import TwoStageTask
from recsys.training.zero_shot import ZeroShotTask


def recformer_stages(
    fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
) -> Sequence[Stage]:
    """What `config.recformer` asks for. Raises InputError where data and settings do not fit."""
    assert isinstance(model, Recformer)
    settings = config.recformer
    if isinstance(settings, PretrainingConfig):
        model.train_only(words=not settings.freeze_words, masked_tokens=settings.masked_weight > 0)
        return (Stage("", PretrainingTask.of(fabric, model, config, data), config),)
    if isinstance(settings, ZeroShotConfig):
        if not config.start_from:
            raise InputError(
                "train.recformer is zero-shot and train.start_from is empty: name a run"
            )
        return (Stage("", ZeroShotTask.of(fabric, config, data), config),)
    stages = []
    if settings.contrast_epochs:
        stages.append(_contrast(fabric, model, config, data))
    else:
        model.train_only(words=not settings.freeze_words, masked_tokens=False)
    first = TwoStageTask.of(fabric, model, config, data, second=False)
    stages.append(Stage("stage-1", first, config))
    if settings.second_stage:
        epochs = settings.second_epochs or config.max_epochs
        again = replace(
            config,
            max_epochs=epochs,
            epochs_per_validation=min(config.epochs_per_validation, epochs),
            patience=settings.second_patience,
            decay_epochs=0,
        )
        second = TwoStageTask.of(fabric, model, again, data, second=True)
        stages.append(Stage("stage-2", second, again))
    return stages


def _contrast(fabric: Fabric, model: Recformer, config: TrainConfig, data: Dataset) -> Stage:
    """Pre-training on the dataset itself, all weights, before the two stages."""
    settings = config.recformer
    assert isinstance(settings, TwoStageConfig)
    before = replace(
        config,
        max_epochs=settings.contrast_epochs,
        decay_epochs=0,
        epochs_per_validation=min(config.epochs_per_validation, settings.contrast_epochs),
        recformer=PretrainingConfig(
            datasets=(str(data.path),),
            masked_weight=settings.contrast_masked_weight,
            freeze_words=settings.freeze_words,
        ),
    )
    masked_tokens = settings.contrast_masked_weight > 0
    model.train_only(words=not settings.freeze_words, masked_tokens=masked_tokens)
    return Stage("contrast", PretrainingTask.of(fabric, model, before, data), before)
