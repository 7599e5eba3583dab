"""The stages in which playlist models are trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from features.errors import InputError
from features.store import Dataset
from recsys.models.playlist_bow import PlaylistBow
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq
from recsys.training.config import TrainConfig
from recsys.training.no_steps import NoStepsTask
from recsys.training.playlist_tasks import (
    AutoencoderTask,
    PartsTask,
    items_of,
    playlists_of,
    song_counts,
)
from recsys.training.skip_gram import song_vectors
from recsys.training.task import Stage

FIT_CHUNK = 1_024
"""Playlists pooled at once."""


def seq2seq_stages(
    fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
) -> Sequence[Stage]:
    """Skip-gram, then the autoencoder, then the two parts, as `config.playlist` asks.

    The autoencoder's score is below 0 and the parts' is not, so that the result is of the last.
    Raises InputError where data and settings do not fit.
    """
    assert isinstance(model, PlaylistSeq2Seq)
    settings = config.playlist
    if not settings.autoencoder and not settings.parts.epochs:
        raise InputError(
            "train.playlist.autoencoder is false and train.playlist.parts.epochs is 0: nothing "
            "would be learned"
        )
    if settings.skip_gram.epochs and not config.start_from:
        model.start_songs(_skip_gram(config, data, model.dim))
    stages = []
    if settings.autoencoder:
        name = "autoencoder" if settings.parts.epochs else ""
        stages.append(Stage(name, AutoencoderTask.of(fabric, model, config, data), config))
    if settings.parts.epochs:
        tuned = replace(
            config,
            max_epochs=settings.parts.epochs,
            patience=settings.parts.patience,
            learning_rate=settings.parts.learning_rate,
            epochs_per_validation=min(config.epochs_per_validation, settings.parts.epochs),
            decay_epochs=0,
        )
        name = "parts" if settings.autoencoder else ""
        stages.append(Stage(name, PartsTask.of(fabric, model, tuned, data), tuned))
    return tuple(stages)


def bow_stages(
    fabric: Fabric, model: nn.Module, config: TrainConfig, data: Dataset
) -> Sequence[Stage]:
    """Skip-gram, SIF's weights and its direction: all of it before the first step, of which there
    is none.
    """
    assert isinstance(model, PlaylistBow)
    if not config.playlist.skip_gram.epochs:
        raise InputError("train.playlist.skip_gram.epochs is 0: a bag of songs has nothing else")
    model.start_songs(_skip_gram(config, data, model.dim))
    if model.pooling == "sif":
        fit_sif(model, data)
    return (Stage("", NoStepsTask.of(fabric, config, data), config),)


def fit_sif(model: PlaylistBow, data: Dataset) -> None:
    """Weights and direction from the training playlists."""
    playlists = playlists_of(data.training_histories(), model.max_len, 1)
    counts_V = song_counts(playlists, data.schema.num_items)
    model.fit_weights(torch.from_numpy(counts_V).float())
    with torch.inference_mode():
        pooled = [
            model.pool(items_of(playlists.take(slice(first, first + FIT_CHUNK))))
            for first in range(0, len(playlists), FIT_CHUNK)
        ]
    model.fit_direction(torch.cat(pooled))


def _skip_gram(config: TrainConfig, data: Dataset, dim: int) -> torch.Tensor:
    histories = data.training_histories()
    vectors_VD = song_vectors(
        histories, data.schema.num_items, dim, config.playlist.skip_gram, config.seed
    )
    if not np.isfinite(vectors_VD).all():
        raise InputError("skip-gram diverged: choose fewer epochs")
    return torch.from_numpy(vectors_VD)
