"""Objectives: how well the states of a history score the items that followed.

An objective is called with states (M, D) float, targets (M,) int64 and the item table (V, D), whose
row 0 is padding and takes no part; it returns the mean over the M positions. They differ in what a
target is compared with:

- `FullSoftmax`: all other items. The reference; best up to some 10,000 items.
- `SampledSoftmax`: a sample that the batch shares. Estimates the full one, for any catalogue.
- `GBCE`: such a sample, each item on its own; calibrated where plain BCE is overconfident.

Shape suffixes: M positions with a target, V item ids, N items (V - 1), K sampled items, D width.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_CHUNK = 8 << 20
GPU_CHUNK = 512 << 20
"""Bytes of logits formed at once: on a CPU what its cache holds, on a GPU what fills the device."""


class Objective(ABC):
    """A loss between states and the items that followed them, in nats."""

    @property
    def compared(self) -> Tensor | None:
        """(K,) ids of the items that targets are compared with; None: the whole table."""
        return None

    def among(self, ids_U: Tensor) -> "Objective":
        """The same objective over a table that holds the items `ids_U` only.

        ids_U: (U,) ascending, 0 first; among them `compared` and all targets. Row u of the table is
        item ids_U[u], and targets are given as rows.
        """
        raise NotImplementedError(f"{type(self).__name__} compares with the whole table")

    @abstractmethod
    def __call__(self, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
        """Mean loss over the M positions, a scalar. Targets are in 1..V-1."""


class CrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(s W')[target], with its gradient formed in the forward pass.

    With P = softmax(s W') the gradients are (P - onehot) W / M and (P - onehot)' s / M. Both are
    taken chunk by chunk while a chunk's logits are in cache; the (M, N) logits, 14 kB a position
    at 3,416 items, are never kept. The value saturates at 87 nats a position (a probability of
    1e-38), the gradient does not. It cannot be differentiated twice.
    """

    @staticmethod
    def forward(ctx: Any, states_MD: Tensor, targets_M: Tensor, items_ND: Tensor) -> Tensor:
        """targets_M counts from 0: rows of items_ND."""
        num, tiny = len(states_MD), torch.finfo(states_MD.dtype).tiny
        total = states_MD.new_zeros(())
        grad_states_MD, grad_items_ND = torch.empty_like(states_MD), torch.zeros_like(items_ND)
        chunk_bytes = GPU_CHUNK if states_MD.is_cuda else CPU_CHUNK
        size = max(chunk_bytes // (states_MD.element_size() * len(items_ND)), 1)
        for first in range(0, num, size):
            rows = slice(first, first + size)
            logits_mN = states_MD[rows] @ items_ND.T
            p_mN = torch.softmax(logits_mN, 1, out=logits_mN)
            total -= p_mN.gather(1, targets_M[rows, None]).clamp_(tiny).log_().sum()
            torch.mm(p_mN, items_ND, out=grad_states_MD[rows])
            grad_items_ND.addmm_(p_mN.T, states_MD[rows])
        grad_states_MD -= items_ND.index_select(0, targets_M)
        grad_items_ND.index_add_(0, targets_M, states_MD, alpha=-1)
        ctx.save_for_backward(grad_states_MD.div_(num), grad_items_ND.div_(num))
        return total / num

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]: the decorator hides names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, Tensor]:
        """Scale the gradients that `forward` has formed."""
        grad_states_MD, grad_items_ND = ctx.saved_tensors
        (grad,) = grad_outputs
        return grad_states_MD * grad, None, grad_items_ND * grad


@dataclass(frozen=True)
class FullSoftmax(Objective):
    """Cross-entropy over the whole catalogue (for SASRec: arXiv:2309.07602)."""

    def __call__(self, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
        """See `Objective`. Computed in float32, also under autocast."""
        with torch.autocast(states_MD.device.type, enabled=False):
            states_MD = states_MD.to(items_VD.dtype)
            loss = CrossEntropy.apply(states_MD, targets_M - 1, items_VD[1:])
        assert isinstance(loss, Tensor)
        return loss


@dataclass(frozen=True)
class SampledSoftmax(Objective):
    """Cross-entropy over the target and K shared samples, with the logQ correction.

        -s_t + log(exp s_t + sum over samples j != t of exp(s_j - log c_j))

    c_j is how often item j is expected among the K samples. The inner sum then has the expectation
    of the full softmax's partition function (Bengio & Senecal 2008; Yi et al., RecSys 2019), and
    with every item sampled once (c = 1) it is the full softmax.
    """

    sampled: Tensor
    """(K,) int64 item ids; repeats are allowed where the sampler draws with replacement."""
    log_count: Tensor
    """(K,) log c_j."""

    @property
    def compared(self) -> Tensor:
        """The sample."""
        return self.sampled

    def among(self, ids_U: Tensor) -> "SampledSoftmax":
        """See `Objective`."""
        return SampledSoftmax(torch.searchsorted(ids_U, self.sampled), self.log_count)

    def __call__(self, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
        """See `Objective`."""
        target_M = (states_MD * F.embedding(targets_M, items_VD)).sum(1)
        sampled_MK = states_MD @ F.embedding(self.sampled, items_VD).T - self.log_count
        sampled_MK = sampled_MK.masked_fill(targets_M[:, None] == self.sampled, -math.inf)
        # not logaddexp: its gradient is nan where every sample of a row is the target
        return -torch.cat([target_M[:, None], sampled_MK], 1).log_softmax(1)[:, 0].mean()


@dataclass(frozen=True)
class GBCE(Objective):
    """Generalised binary cross-entropy of gSASRec (Petrov & Macdonald, RecSys 2023, eq. 7-9).

        -(beta log sigmoid(s_t) + sum over samples j != t of log(1 - sigmoid(s_j))) / (K + 1)

    beta = a (t (1 - 1/a) + 1/a) with a = K / (N - 1), the share of negatives that is sampled, and
    t in 0..1: t = 0 gives plain BCE (beta = 1), t = 1 makes scores calibrated (beta = a).
    """

    sampled: Tensor
    """(K,) int64 item ids, uniform."""
    calibration: float
    """The paper's t."""
    num_items: int
    """N, also where the table holds a part of the catalogue."""

    @property
    def compared(self) -> Tensor:
        """The sample."""
        return self.sampled

    def among(self, ids_U: Tensor) -> "GBCE":
        """See `Objective`."""
        return replace(self, sampled=torch.searchsorted(ids_U, self.sampled))

    def beta(self) -> float:
        """Exponent of the target's probability."""
        share = len(self.sampled) / (self.num_items - 1)
        return share * (self.calibration * (1 - 1 / share) + 1 / share)

    def __call__(self, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
        """See `Objective`."""
        target_M = (states_MD * F.embedding(targets_M, items_VD)).sum(1)
        sampled_MK = states_MD @ F.embedding(self.sampled, items_VD).T
        sampled_MK = sampled_MK.masked_fill(targets_M[:, None] == self.sampled, -math.inf)
        positive_M = self.beta() * F.softplus(-target_M)
        return (positive_M + F.softplus(sampled_MK).sum(1)).mean() / (len(self.sampled) + 1)
