"""What differs when several processes train one model under `torchrun`.

A run that was interrupted may go on with another number of ranks: the batch over all of them stays
what it was when the run began, so that steps, order of the data and learning rates are the same.
What a rank draws by itself (dropout, negatives) differs; the same number of ranks draws the same.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from features.errors import InputError
from recsys.training.config import TrainConfig

RANKS = "ranks.json"
"""Of an unfinished run: on how many ranks it began."""


def mean_over_ranks(fabric: Fabric, values_U: NDArray[np.float64]) -> float:
    """Mean of the finite values of all ranks together; nan where there are none."""
    known_U = values_U[np.isfinite(values_U)]
    local = torch.tensor([known_U.sum(), len(known_U)], dtype=torch.float64, device=fabric.device)
    total, count = torch.as_tensor(fabric.all_reduce(local, reduce_op="sum")).tolist()
    return total / count if count else float("nan")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one rank, so that dropout needs no saved state to resume."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def keep_global_batch(fabric: Fabric, directory: Path, config: TrainConfig) -> TrainConfig:
    """The configuration with the batch of a rank that the unfinished run in `directory` needs now.

    Raises InputError where its global batch cannot be dealt out evenly over these ranks.
    """
    path = directory / RANKS
    if fabric.is_global_zero and not path.exists():
        path.write_text(json.dumps({"ranks": fabric.world_size}))
    fabric.barrier()
    began = int(json.loads(path.read_text())["ranks"])
    rows = began * config.batch_size
    if rows % fabric.world_size:
        fits = [ranks for ranks in range(1, rows + 1) if rows % ranks == 0]
        raise InputError(
            f"{directory}: the run began on {began} ranks with {config.batch_size} rows each, and "
            f"{rows} rows cannot be dealt out evenly over {fabric.world_size}: go on with one of "
            f"{fits[:12]} ranks"
        )
    return replace(config, batch_size=rows // fabric.world_size)
