"""Parts that several models share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at(values_BLD: Tensor, place_B: Tensor) -> Tensor:
    """The vector at one position of each sequence, (B, D)."""
    place_B11 = place_B[:, None, None].expand(-1, 1, values_BLD.size(2))
    return values_BLD.gather(1, place_B11).squeeze(1)


class _CheapDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = (words.view(torch.uint8)[: x.numel()] >= dropped).view(x.shape)
        ctx.save_for_backward(kept)
        ctx.scale = 256 / (256 - dropped)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]: the decorator hides names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None]:
        (grad,), (kept,) = grad_outputs, ctx.saved_tensors
        return (grad * kept).mul_(ctx.scale), None


class Dropout(nn.Module):
    """`nn.Dropout` with the rate rounded to a multiple of 1/256.

    On a CPU the mask is then a comparison of random bytes, eight to a draw: 1 ns an element where
    torch's own takes 10 (two threads, forward), a fifth of a training step of SASRec.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout={rate} is not in 0..1")
        self.dropped = min(round(rate * 256), 255)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; unchanged in evaluation mode."""
        if not self.training or not self.dropped:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.dropped / 256)
        dropped = _CheapDropout.apply(x, self.dropped)
        assert isinstance(dropped, Tensor)
        return dropped
