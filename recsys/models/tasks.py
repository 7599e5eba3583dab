"""What a ranker of several tasks is told of them, and how their losses are weighed.

Shape suffixes: B histories, C candidates, T tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weighting = Literal["fixed", "uncertainty", "gradient"]
SMOOTHING = 0.9
"""Share of the old value in the running norm of a task's gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One thing to predict of a user and an item, as `recsys.training.task_config` describes it."""

    name: str
    events: tuple[str, ...] = ()
    """Behaviours any of which makes the label 1."""
    among: str = ""
    """The task is known only where the label of this one is 1; empty: of everything shown."""


def losses_by_task(scores_BCT: Tensor, labels_BCT: Tensor, known_BCT: Tensor) -> Tensor:
    """Mean binary cross-entropy (nats) of each task over the labels that are known, (T,).

    0 where a task has none: the mean is over labels, never over the batch.
    """
    each_BCT = F.binary_cross_entropy_with_logits(scores_BCT, labels_BCT, reduction="none")
    known_BCT = known_BCT.to(each_BCT.dtype)
    return (each_BCT * known_BCT).sum((0, 1)) / known_BCT.sum((0, 1)).clamp(min=1)


class TaskWeights(nn.Module):
    """Losses of T tasks to one.

    fixed        sum of w_t L_t
    uncertainty  sum of exp(-s_t) L_t + s_t / 2, s learned: the log of a task's noise (Kendall, Gal
                 & Cipolla, CVPR 2018, eq. 10, for classification)
    gradient     sum of w_t L_t / |g_t|, scaled so that the weights' mean is 1. |g_t| is the running
                 norm of L_t's gradient on what the tasks share. The aim is that of GradNorm (Chen
                 et al., ICML 2018, alpha = 0), reached by division, not by steps of descent
    """

    def __init__(self, fixed: Sequence[float], kind: Weighting) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("fixed", torch.tensor(fixed), persistent=False)
        if kind == "uncertainty":
            self.log_noise = nn.Parameter(torch.zeros(len(fixed)))
        if kind == "gradient":
            self.register_buffer("norms", torch.zeros(len(fixed)))

    def forward(self, losses_T: Tensor, shared: Sequence[Tensor]) -> Tensor:
        """One loss. shared: tensors through which every task's gradient passes."""
        fixed = self.get_buffer("fixed")
        if self.kind == "uncertainty":
            return (fixed * (torch.exp(-self.log_noise) * losses_T + self.log_noise / 2)).sum()
        if self.kind == "gradient":
            if torch.is_grad_enabled() and losses_T.requires_grad:
                self.observe(losses_T, shared)
            return (fixed * self.balance() * losses_T).sum()
        return (fixed * losses_T).sum()

    def observe(self, losses_T: Tensor, shared: Sequence[Tensor]) -> None:
        """Update the running norms; a task without labels in the batch keeps its own."""
        norms = self.get_buffer("norms")
        for t, loss in enumerate(losses_T.unbind()):
            found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
            square = sum(x.square().sum() for x in found if x is not None)
            norm = torch.as_tensor(square).sqrt().detach()
            old = norms[t].clone()
            new = torch.where(old > 0, SMOOTHING * old + (1 - SMOOTHING) * norm, norm)
            norms[t] = torch.where(norm > 0, new, old)

    def balance(self) -> Tensor:
        """(T,) with mean 1, inverse to the norms; 1 while a norm is unknown."""
        norms = self.get_buffer("norms")
        inverse = 1 / norms.clamp(min=1e-12)
        balanced = inverse * len(norms) / inverse.sum()
        return torch.where((norms > 0).all(), balanced, torch.ones_like(norms))
