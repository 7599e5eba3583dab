"""DTRN: a bottom of its own for every task (Liu et al., CIKM 2023, arXiv:2308.05996).

The paper's text was not at hand, nor any code. Verified, from its abstract and reviews of it:

- one bottom representation a task, against negative transfer under a shared one;
- TIM: a hypernetwork reads embeddings of the task and of the behaviour, and emits scale and shift
  of the layer norms of one transformer, which encodes that behaviour's history for that task;
- TRM: an MLP over user, item and context features and the interests yields weights that multiply
  these embeddings, a set a task, in the manner of SENet;
- the refined embeddings go into the usual multi-task heads.

Chosen here, as the specification does (so "DTRN-style"): everything else. The candidate is a row of
the transformer and its output is read; events do not see the candidate, so that their keys and
values serve all candidates; post-norm, one layer; scales are 1 + what the hypernetwork emits; one
weight a field, 2 sigmoid(.), 1 at the start; a learned vector in the place of an empty history; no
user, context or time fields, as the pipeline has none.

Shape suffixes: those of `multi_task.py`; R hidden units of the gates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.models.interface import Tensors
from recsys.models.multi_task import MultiTask, MultiTaskConfig
from recsys.models.task_heads import GroupedLinear
from recsys.models.task_interests import (
    HYPER_STD,
    Conditions,
    HyperNetwork,
    Interests,
    SeparateInterests,
    plain_table,
)

Interest = Literal["hypernetwork", "task_only", "behaviour_only", "table", "separate", "shared"]
READS = {
    "hypernetwork": (True, True),
    "task_only": (True, False),
    "behaviour_only": (False, True),
}
"""Whether the hypernetwork sees the task, and the behaviour."""
LEAST_HIDDEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DTRNConfig(MultiTaskConfig):
    """Sizes of one DTRN, and its ablations."""

    interest: Interest = "hypernetwork"
    """What scales and shifts the layer norms. task_only, behaviour_only: a hypernetwork that sees
    one of the two. table: free parameters by task and behaviour. separate: a transformer each.
    shared: by behaviour alone, the same for all tasks (without TIM)."""
    refine: Literal["field", "element", "none"] = "field"
    """Gates: a weight a field, or a weight an element; none: without TRM."""
    squeeze: bool = False
    """Gates read the mean of each field (FiBiNET), not the embeddings themselves."""
    type_dim: int = 8
    """Width of the embeddings of task and behaviour."""
    hyper_hidden: int = 32
    hyper_std: float = HYPER_STD
    """Of the hypernetwork's last layer at the start; more separates the tasks sooner."""

    def __post_init__(self) -> None:
        MultiTaskConfig.__post_init__(self)
        for name in ("type_dim", "hyper_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class Refinement(nn.Module):
    """TRM: g_k = 2 sigmoid(V_k relu(U_k x)), and every block of task k's x is multiplied by its g.

    V and its bias start at 0, so that g is 1.
    """

    def __init__(self, tasks: int, blocks: int, dim: int, *, element: bool, squeeze: bool) -> None:
        super().__init__()
        self.blocks, self.element, self.squeeze = blocks, element, squeeze
        hidden = max(LEAST_HIDDEN, blocks * dim // 4)
        self.first = GroupedLinear(tasks, blocks if squeeze else blocks * dim, hidden)
        self.last = GroupedLinear(tasks, hidden, blocks * dim if element else blocks)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def gates(self, x_GNW: Tensor) -> Tensor:
        """(T, N, blocks), or (T, N, W) for elements."""
        read = x_GNW.unflatten(-1, (self.blocks, -1)).mean(-1) if self.squeeze else x_GNW
        return 2 * self.last(self.first(read).relu()).sigmoid()

    def forward(self, x_GNW: Tensor) -> Tensor:
        """(G, N, W) to (T, N, W)."""
        gates = self.gates(x_GNW)
        if self.element:
            return x_GNW * gates
        blocks = x_GNW.unflatten(-1, (self.blocks, -1))
        return (blocks * gates.unsqueeze(-1)).flatten(-2)


class DTRN(MultiTask):
    """A conditional transformer and gates below any head."""

    config: DTRNConfig

    def __init__(self, config: DTRNConfig) -> None:
        super().__init__(config)
        self.refinement = None
        if config.refine != "none":
            self.refinement = Refinement(
                len(self.tasks),
                self.blocks,
                config.dim,
                element=config.refine == "element",
                squeeze=config.squeeze,
            )

    def make_interests(self) -> Interests | SeparateInterests:
        """The transformer under the configured conditions."""
        config = self.config
        if config.interest == "shared":
            return super().make_interests()
        if config.interest == "separate":
            plain = (1, 1, config.layers, config.dim)
            return SeparateInterests(
                [[self.transformer((code,), plain_table(*plain)) for code in config.codes]
                 for _ in config.tasks]
            )  # fmt: skip
        shape = (len(config.tasks), len(config.codes), config.layers, config.dim)
        conditions: Conditions = plain_table(*shape)
        if config.interest != "table":
            conditions = HyperNetwork(
                shape,
                config.type_dim,
                config.hyper_hidden,
                std=config.hyper_std,
                reads=READS[config.interest],
            )
        return self.transformer(config.codes, conditions)

    def representation(self, tensors: Tensors, fields_BCX: Tensor) -> Tensor:
        """Fields and interests of each task, refined, (G, B, C, W)."""
        x_GBCW = super().representation(tensors, fields_BCX)
        if self.refinement is None:
            return x_GBCW
        return self.refinement(x_GBCW.flatten(1, 2)).unflatten(1, fields_BCX.shape[:2])


@torch.no_grad()
def specialisation(model: MultiTask, tensors: Tensors) -> dict[str, float]:
    """Whether TIM does anything: the specification's health figures (section 9).

    `cosine.<code>`: mean cosine of two tasks' interests in a behaviour, 1 where it is inert.
    `scale_spread`, `shift_spread`: standard deviation of scale and shift over tasks, mean over the
    rest.
    """
    found_GBCSD = model.interests.interests(tensors, model.summed(tensors["target"]))
    groups = found_GBCSD.size(0)
    figures: dict[str, float] = {}
    pairs = [(i, j) for i in range(groups) for j in range(i)]
    for s, code in enumerate(model.config.codes):
        cosines = [
            torch.cosine_similarity(found_GBCSD[i, :, :, s], found_GBCSD[j, :, :, s], -1).mean()
            for i, j in pairs
        ]
        figures[f"cosine.{code}"] = float(torch.stack(cosines).mean()) if cosines else 1.0
    if isinstance(model.interests, Interests):
        conditions = model.interests.conditions()
        spread = conditions.std(0, correction=0).mean((0, 1, 2, 4))
        figures["scale_spread"], figures["shift_spread"] = spread.tolist()
    return figures
