"""Objectives: how well the states of a history score the items that followed.

Shape suffixes: M positions with a target, V item ids (0 is padding), K sampled items, D width.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(states (M, D), targets (M,) int64, items (V, D)) -> mean loss in nats."""


def full_softmax(states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue; row 0, the padding, takes no part."""
    return F.cross_entropy(states_MD @ items_VD[1:].T, targets_M - 1)
