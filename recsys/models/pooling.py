"""A history's outputs to one vector: three ways to read off an encoder that is not causal.

Shape suffixes: B histories, L positions, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.layers import at


class MeanPool(nn.Module):
    """The average over the events; zero for an empty history."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def start(self, x_BLD: Tensor, real_BL: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder runs over, and which of it is real."""
        return x_BLD, real_BL

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """(B, D)."""
        count_B1 = real_BL.sum(1, keepdim=True).clamp(min=1)
        return (x_BLD * real_BL[..., None]).sum(1) / count_B1


class LastPool(MeanPool):
    """The output at the last event."""

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """(B, D)."""
        last_B = (real_BL.sum(1) - 1).clamp(min=0)
        return at(x_BLD, last_B)


class ClsPool(MeanPool):
    """The output at a learned token before the history."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02)

    def start(self, x_BLD: Tensor, real_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The history behind the token."""
        token_B1D = self.token.expand(x_BLD.size(0), 1, -1)
        return torch.cat([token_B1D, x_BLD], 1), F.pad(real_BL, (1, 0), value=True)

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """(B, D)."""
        return x_BLD[:, 0]


POOLS: dict[str, type[MeanPool]] = {"mean": MeanPool, "last": LastPool, "cls": ClsPool}
