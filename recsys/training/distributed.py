"""What differs when several processes train one model under `torchrun`."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray


def mean_over_ranks(fabric: Fabric, values_U: NDArray[np.float64]) -> float:
    """Mean of the finite values of all ranks together; nan where there are none."""
    known_U = values_U[np.isfinite(values_U)]
    local = torch.tensor([known_U.sum(), len(known_U)], dtype=torch.float64, device=fabric.device)
    total, count = torch.as_tensor(fabric.all_reduce(local, reduce_op="sum")).tolist()
    return total / count if count else float("nan")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step of one rank, so that dropout needs no saved state to resume."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))
