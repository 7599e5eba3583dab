"""Tops of multi-task rankers: one representation a task in, one log-odds a task out.

    SharedBottom  one network for all, a tower each
    MMoE          experts for all, mixed by a gate a task (Ma et al., KDD 2018)
    PLE           experts of a task beside common ones, level upon level (Tang et al., RecSys 2020)
    ESMM          a network a behaviour; what follows a click is a product with its probability, so
                  that it learns from everything shown (Ma et al., SIGIR 2018)

Every head takes x (G, N, W): G is T, a representation for each task, or 1, the same for all; then
what the tasks share is computed once. Common experts of PLE read the mean of the tasks'
representations (the specification's choice).

Shape suffixes: T tasks, G tasks or 1, N rows, W width, E experts, H hidden.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.models.layers import Dropout
from recsys.models.tasks import TaskSpec

HeadName = Literal["shared_bottom", "mmoe", "ple", "esmm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSizes:
    """Sizes of a head."""

    experts: int = 4
    """Experts of mmoe, common experts of ple."""
    task_experts: int = 2
    """Experts of each task, in ple."""
    levels: int = 1
    """Of ple; 1 is what its paper calls CGC."""
    hidden: tuple[int, ...] = (64, 32)
    """Layers of an expert, or of the bottom network."""
    tower: tuple[int, ...] = (16,)
    """Layers between those and a task's output."""
    dropout: float = 0.0
    """Of hidden layers."""

    def __post_init__(self) -> None:
        for name in ("experts", "task_experts", "levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not self.hidden or min((*self.hidden, *self.tower)) < 1:
            raise ValueError(
                f"hidden={self.hidden} and tower={self.tower} need widths of at least 1, and "
                f"hidden at least one"
            )


class GroupedLinear(nn.Module):
    """G linear layers side by side, each as `nn.Linear` starts."""

    def __init__(self, groups: int, width: int, out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(groups, width, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, out).uniform_(-bound, bound))

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) or (1, N, W) to (G, N, out)."""
        return x_GNW @ self.weight + self.bias


class Experts(nn.Module):
    """E networks of ReLU layers that all read the same rows."""

    def __init__(self, experts: int, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.experts, self.width = experts, hidden[-1]
        self.first = nn.Linear(width, experts * hidden[0])
        sizes = list(hidden)
        self.later = nn.ModuleList(GroupedLinear(experts, a, b) for a, b in pairwise(sizes))
        self.dropout = Dropout(dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (G, N, E, H)."""
        groups, rows = x_GNW.shape[:2]
        x = self.dropout(self.first(x_GNW).relu()).unflatten(-1, (self.experts, -1))
        if not self.later:
            return x
        x_EMH = x.flatten(0, 1).transpose(0, 1)
        for layer in self.later:
            x_EMH = self.dropout(layer(x_EMH).relu())
        return x_EMH.transpose(0, 1).unflatten(0, (groups, rows))


class Towers(nn.Module):
    """A network a task, from its representation to one number."""

    def __init__(self, tasks: int, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        sizes = [width, *hidden]
        self.layers = nn.ModuleList(GroupedLinear(tasks, a, b) for a, b in pairwise(sizes))
        self.out = GroupedLinear(tasks, sizes[-1], 1)
        self.dropout = Dropout(dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""
        for layer in self.layers:
            x_GNW = self.dropout(layer(x_GNW).relu())
        return self.out(x_GNW).squeeze(-1)


class Head(nn.Module, ABC):
    """Log-odds of the tasks. Which of them the loss counts is `learned`."""

    learned: tuple[bool, ...]

    @abstractmethod
    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""


class SharedBottom(Head):
    """One network, applied to every task's representation."""

    def __init__(self, tasks: Sequence[TaskSpec], width: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.learned = (True,) * len(tasks)
        self.bottom = Experts(1, width, sizes.hidden, sizes.dropout)
        self.towers = Towers(len(tasks), self.bottom.width, sizes.tower, sizes.dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""
        return self.towers(self.bottom(x_GNW).squeeze(2))


class MMoE(Head):
    """Experts and gates both read the task's own representation."""

    def __init__(self, tasks: Sequence[TaskSpec], width: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.learned = (True,) * len(tasks)
        self.experts = Experts(sizes.experts, width, sizes.hidden, sizes.dropout)
        self.gate = GroupedLinear(len(tasks), width, sizes.experts)
        self.towers = Towers(len(tasks), self.experts.width, sizes.tower, sizes.dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""
        share_TNE = self.gate(x_GNW).softmax(-1)
        return self.towers(mixed(share_TNE, self.experts(x_GNW)))


class PLE(Head):
    """Customised gate control: a task mixes its own experts and the common ones.

    Between levels the common path mixes all experts, and every task goes on with its mixture.
    """

    def __init__(self, tasks: Sequence[TaskSpec], width: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.learned = (True,) * len(tasks)
        count = len(tasks)
        self.own, self.common = nn.ModuleList(), nn.ModuleList()
        self.gates, self.common_gates = nn.ModuleList(), nn.ModuleList()
        for level in range(sizes.levels):
            self.own.append(
                nn.ModuleList(
                    Experts(sizes.task_experts, width, sizes.hidden, sizes.dropout) for _ in tasks
                )
            )
            self.common.append(Experts(sizes.experts, width, sizes.hidden, sizes.dropout))
            self.gates.append(GroupedLinear(count, width, sizes.task_experts + sizes.experts))
            if level < sizes.levels - 1:
                whole = count * sizes.task_experts + sizes.experts
                self.common_gates.append(GroupedLinear(1, width, whole))
            width = sizes.hidden[-1]
        self.towers = Towers(count, width, sizes.tower, sizes.dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""
        common_1NW = x_GNW.mean(0, keepdim=True)
        for level, (own, gates) in enumerate(zip(self.own, self.gates, strict=True)):
            assert isinstance(own, nn.ModuleList)
            theirs = x_GNW.expand(len(own), -1, -1)
            own_TNEH = torch.cat([experts(x[None]) for experts, x in zip(own, theirs, strict=True)])
            all_1NEH = self.common[level](common_1NW)
            share_TNE = gates(x_GNW).softmax(-1)
            both_TNEH = torch.cat([own_TNEH, all_1NEH.expand(len(own), -1, -1, -1)], 2)
            if level < len(self.common_gates):
                share_1NE = self.common_gates[level](common_1NW).softmax(-1)
                every_NEH = torch.cat([*own_TNEH, all_1NEH[0]], 1)
                common_1NW = mixed(share_1NE, every_NEH[None])
            x_GNW = mixed(share_TNE, both_TNEH)
        return self.towers(x_GNW)


class ESMM(Head):
    """p(buy) = p(click) p(buy | click): log-odds of the product from log-odds a and b are
    -log(e^-a + e^-b + e^(-a - b)).

    The first task is the click. A task `among` the click has the log-odds b, and no loss of its
    own: its network learns through the product. Networks: one a set of behaviours.
    """

    def __init__(self, tasks: Sequence[TaskSpec], width: int, sizes: HeadSizes) -> None:
        super().__init__()
        check_esmm(tasks)
        self.learned = tuple(not task.among for task in tasks)
        networks = list(dict.fromkeys(task.events for task in tasks))
        self.network = [networks.index(task.events) for task in tasks]
        """Of each task."""
        self.owner = [self.network.index(i) for i in range(len(networks))]
        """Task whose representation a network reads."""
        self.product = [i > 0 and not task.among for i, task in enumerate(tasks)]
        self.bottoms = nn.ModuleList(
            Experts(1, width, sizes.hidden, sizes.dropout) for _ in networks
        )
        self.towers = Towers(len(networks), sizes.hidden[-1], sizes.tower, sizes.dropout)

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N)."""
        x_GNW = x_GNW.expand(max(self.owner) + 1, -1, -1) if x_GNW.size(0) == 1 else x_GNW
        hidden = [
            bottom(x_GNW[owner][None]).squeeze(2)
            for bottom, owner in zip(self.bottoms, self.owner, strict=True)
        ]
        tower_XN = self.towers(torch.cat(hidden))
        click_N = tower_XN[self.network[0]]
        found = []
        for network, product in zip(self.network, self.product, strict=True):
            a_N, b_N = -click_N, -tower_XN[network]
            terms = torch.stack([a_N, b_N, a_N + b_N])
            found.append(-torch.logsumexp(terms, 0) if product else tower_XN[network])
        return torch.stack(found)


def check_esmm(tasks: Sequence[TaskSpec]) -> None:
    """Raise ValueError for tasks that the head cannot express."""
    first = tasks[0]
    if len(tasks) < 2 or first.among:
        raise ValueError(
            f"head esmm needs a first task of everything shown (the click) and others that follow "
            f"it, found {[task.name for task in tasks]}"
        )
    products = {task.events for task in tasks[1:] if not task.among}
    for task in tasks[1:]:
        if task.among and (task.among != first.name or task.events not in products):
            raise ValueError(
                f"head esmm: task {task.name} is among {task.among!r}; it must be among "
                f"{first.name!r}, and a task of the same events be known of everything shown: its "
                f"network learns from that one"
            )


def mixed(share_TNE: Tensor, experts_GNEH: Tensor) -> Tensor:
    """Sum over experts, weighted, (T, N, H)."""
    return (share_TNE.unsqueeze(-1) * experts_GNEH).sum(2)


HEADS: dict[HeadName, type[Head]] = {
    "shared_bottom": SharedBottom,
    "mmoe": MMoE,
    "ple": PLE,
    "esmm": ESMM,
}
