"""The objective of each step: the configured loss, and the items it is compared against.

What is drawn at a step is a function of (seed, step), so every rank draws the same.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from recsys.models.losses import GBCE, FullSoftmax, Objective, SampledSoftmax
from recsys.training.config import (
    AutoConfig,
    FullSoftmaxConfig,
    GBCEConfig,
    ObjectiveConfig,
    TrainConfig,
)

ObjectiveOfStep = Callable[[int], Objective]
IN_GRAPH_LIMIT = 200_000
"""Items up to which a model of attributes encodes the whole catalogue in every step."""
STREAM = 1
"""Keeps these draws apart from others of the same seed."""


def uniform(num_items: int, k: int, seed: int, step: int) -> NDArray[np.int64]:
    """`k` different item ids, each as likely as any other, (K,)."""
    draw = np.random.default_rng([seed, STREAM, step])
    return draw.choice(num_items, k, replace=False, shuffle=False) + 1


def by_popularity(
    cumulative_N: NDArray[np.float64], k: int, seed: int, step: int
) -> NDArray[np.int64]:
    """`k` item ids, (K,), with replacement; `cumulative_N` sums the probabilities of ids 1..N."""
    draw = np.random.default_rng([seed, STREAM, step])
    found = np.searchsorted(cumulative_N, draw.random(k), side="right")
    return np.minimum(found, len(cumulative_N) - 1) + 1


def refuse_large_catalogue(objective: ObjectiveConfig, num_items: int, dim: int) -> None:
    """Raise InputError where every step would encode more than `IN_GRAPH_LIMIT` items.

    For models that read attributes: an id model's table is a parameter, theirs is computed, with
    gradient, at each step.
    """
    full = isinstance(objective, FullSoftmaxConfig) or (
        isinstance(objective, AutoConfig) and num_items <= objective.full_up_to
    )
    if full and num_items > IN_GRAPH_LIMIT:
        gigabytes = 2 * 4 * dim * num_items / 1e9
        raise InputError(
            f"the full softmax would encode all {num_items:,} items with gradient at every step "
            f"({gigabytes:.1f} GB for vectors and gradient alone), at most {IN_GRAPH_LIMIT:,} are "
            "allowed: set train.objective = { name = 'sampled_softmax', negatives = 4096, "
            "sampling = 'popularity' }, or leave the objective out: 'auto' chooses by the size"
        )


def objective_of_step(
    config: TrainConfig, counts_N: NDArray[np.int64], device: torch.device
) -> ObjectiveOfStep:
    """The objective for any step. counts_N: training events of the items 1..N.

    Raises InputError when more negatives are asked for than there are items.
    """
    objective, num_items, seed = config.objective, len(counts_N), config.seed
    if isinstance(objective, AutoConfig):
        objective = objective.for_catalogue(num_items)
    if isinstance(objective, FullSoftmaxConfig):
        full = FullSoftmax()
        return lambda _: full
    k = objective.negatives
    if not 1 <= k <= num_items:
        raise InputError(
            f"train.objective.negatives = {k} is not in 1..{num_items}, the number of items: "
            f"choose fewer, or name = 'full_softmax'"
        )

    def place(sampled_K: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(sampled_K).to(device)

    if isinstance(objective, GBCEConfig):
        calibration = objective.calibration
        return lambda step: GBCE(place(uniform(num_items, k, seed, step)), calibration, num_items)
    if objective.sampling == "uniform":
        log_count_K = torch.full((k,), math.log(k / num_items), device=device)
        return lambda step: SampledSoftmax(place(uniform(num_items, k, seed, step)), log_count_K)
    share_N = (counts_N + 1) / (counts_N + 1).sum()  # + 1: an item without events can be drawn
    cumulative_N = np.cumsum(share_N)
    log_count_V = torch.from_numpy(np.log(k * np.concatenate([[1.0], share_N]))).float().to(device)

    def sampled(step: int) -> Objective:
        sampled_K = place(by_popularity(cumulative_N, k, seed, step))
        return SampledSoftmax(sampled_K, log_count_V[sampled_K])

    return sampled
