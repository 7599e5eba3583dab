"""DTRN's task-specific interest module: one transformer over every behaviour's history, its layer
norms scaled and shifted by task and behaviour.

The candidate stands at the end of each history and the output at its place is the interest. Events
see one another and not the candidate, so all that concerns the history alone is computed once a
request (`history`), and a candidate adds one query a layer (`interests`).

The block is post-norm. Conditioning first enters behind the attention of the first layer, so what
comes before it is computed once for all tasks; that is exact (the specification, section 6).

Shape suffixes: B histories, L positions, C candidates, T tasks, G tasks or 1, S behaviours,
M layers, D width, h heads, e width of a head.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interest import lowest, recency_ranks

ConditionName = Literal["hypernetwork", "task_only", "behaviour_only", "table", "shared"]
NORMS = 2
"""Layer norms of a layer."""
HYPER_STD = 0.01
"""Of the hypernetwork's last layer at the start (rabeehk/hyperformer)."""


class Conditions(nn.Module, ABC):
    """Scale and shift of every layer norm, by task and behaviour."""

    @abstractmethod
    def forward(self) -> Tensor:
        """(G, S, M, 2 norms, 2, D): scale and shift."""


class FreeTable(Conditions):
    """A parameter each; also what a hypernetwork is folded into for serving."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self) -> Tensor:
        """The parameters."""
        return self.values


def plain_table(tasks: int, behaviours: int, layers: int, dim: int) -> FreeTable:
    """Scales 1, shifts 0."""
    values = torch.zeros(tasks, behaviours, layers, NORMS, 2, dim)
    values[..., 0, :] = 1
    return FreeTable(values)


class HyperNetwork(Conditions):
    """W2 relu(W1 [task | behaviour] + b1) + b2: what is added to scales of 1 and shifts of 0.

    reads: whether the task's embedding is seen, and the behaviour's (ablations leave one out).
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        type_dim: int,
        hidden: int,
        *,
        std: float = HYPER_STD,
        reads: tuple[bool, bool] = (True, True),
    ) -> None:
        super().__init__()
        tasks, behaviours, layers, dim = self.shape = shape
        self.reads = reads
        if reads[0]:
            self.task = nn.Embedding(tasks, type_dim)
        if reads[1]:
            self.behaviour = nn.Embedding(behaviours, type_dim)
        self.first = nn.Linear(type_dim * sum(reads), hidden)
        self.last = nn.Linear(hidden, layers * NORMS * 2 * dim)
        nn.init.normal_(self.last.weight, std=std)
        nn.init.zeros_(self.last.bias)

    def forward(self) -> Tensor:
        """(T, S, M, 2, 2, D)."""
        tasks, behaviours, layers, dim = self.shape
        parts = []
        if self.reads[0]:
            parts.append(self.task.weight[:, None].expand(-1, behaviours, -1))
        if self.reads[1]:
            parts.append(self.behaviour.weight[None].expand(tasks, -1, -1))
        hidden = self.first(torch.cat(parts, -1)).relu()
        added = self.last(hidden).view(tasks, behaviours, layers, NORMS, 2, dim)
        scale = added.new_tensor([1.0, 0.0])[:, None]
        return scale + added


class Attention(nn.Module):
    """Multi-head attention in parts, so that events and candidates are projected apart."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        """(..., D) to (..., h, e)."""
        return x.unflatten(-1, (self.heads, -1))

    def weights(
        self, query_GhCe: Tensor, key_GhLe: Tensor, own_key_GhCe: Tensor, bias_B11L: Tensor
    ) -> Tensor:
        """(B, G, h, C, L + 1): over the events, and last the candidate itself."""
        query_GhCe = query_GhCe * (self.dim // self.heads) ** -0.5
        events = query_GhCe @ key_GhLe.transpose(-1, -2) + bias_B11L
        itself = (query_GhCe * own_key_GhCe).sum(-1, keepdim=True)
        return torch.cat([events, itself], -1).softmax(-1)


class Layer(nn.Module):
    """One block: attention, conditional norm, network, conditional norm."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def after(self, x: Tensor, attended: Tensor, conditions: Tensor) -> Tensor:
        """What follows the attention. conditions: (..., 2 norms, 2, D), to be broadcast."""
        x = conditional_norm(x + attended, conditions[..., 0, :, :])
        return conditional_norm(x + self.feed(x), conditions[..., 1, :, :])


def conditional_norm(x: Tensor, conditions: Tensor) -> Tensor:
    """Layer norm without parameters of its own, then scale and shift (..., 2, D)."""
    normal = F.layer_norm(x, x.shape[-1:])
    return normal * conditions[..., 0, :] + conditions[..., 1, :]


class Interests(nn.Module):
    """The conditional transformer over all behaviours."""

    def __init__(
        self,
        codes: Sequence[int],
        conditions: Conditions,
        dim: int,
        *,
        layers: int,
        heads: int,
        num_positions: int,
    ) -> None:
        super().__init__()
        self.codes, self.num_positions = tuple(codes), num_positions
        self.conditions = conditions
        self.layers = nn.ModuleList(Layer(dim, heads, 2 * dim) for _ in range(layers))
        self.position = nn.Parameter(torch.randn(len(codes), num_positions + 1, dim) * 0.02)
        """Of a behaviour and a recency rank: 0 the candidate, 1 the newest event."""
        self.absent = nn.Parameter(torch.zeros(len(codes), dim))
        """The interest in the place of a history without an event."""

    def history(self, tokens: Mapping[int, Tensor], valid: Mapping[int, Tensor]) -> dict:
        """By behaviour code, tokens (B, L, D) and which are real, (B, L), to tensors by name.

        memory<m>:<code> (B, L, G, 2 D), keys and values of layer m. bias:<code> (B, L), 0 or very
        low. present (B, S), 1 where there is an event.
        """
        conditions, found = self.conditions(), {}
        for s, code in enumerate(self.codes):
            rank_BL = recency_ranks(valid[code]).clamp(max=self.num_positions)
            x_BLGD = (tokens[code] + F.embedding(rank_BL, self.position[s])).unsqueeze(2)
            low = lowest(tokens[code])
            bias_BL = torch.where(valid[code], 0.0, low)
            found[f"bias:{code}"] = bias_BL
            for m, layer in enumerate(self.layers):
                assert isinstance(layer, Layer)
                projected = layer.attention.project(x_BLGD)
                found[f"memory{m}:{code}"] = projected[..., layer.attention.dim :]
                if m < len(self.layers) - 1:
                    attended = self.among_events(layer.attention, projected, bias_BL)
                    x_BLGD = layer.after(x_BLGD, attended, conditions[:, s, m])
        present = [valid[code].any(1) for code in self.codes]
        return found | {"present": torch.stack(present, 1).to(self.absent.dtype)}

    def among_events(self, attention: Attention, projected: Tensor, bias_BL: Tensor) -> Tensor:
        """Self-attention of the events of a history, (B, L, G, D)."""
        query, key, value = (
            attention.split(x).permute(0, 2, 3, 1, 4) for x in projected.chunk(3, -1)
        )
        scores = query @ key.transpose(-1, -2) * query.size(-1) ** -0.5
        weights = (scores + bias_BL[:, None, None, None, :]).softmax(-1)
        return attention.out((weights @ value).permute(0, 3, 1, 2, 4).flatten(-2))

    def names(self) -> list[str]:
        """Of the tensors of `history`, without `present`."""
        layers = range(len(self.layers))
        memories = [f"memory{m}:{code}" for code in self.codes for m in layers]
        return memories + [f"bias:{code}" for code in self.codes]

    def interests(self, tensors: Mapping[str, Tensor], target_BCD: Tensor) -> Tensor:
        """(G, B, C, S, D): of every task, candidate and behaviour."""
        found, _ = self.attend(tensors, target_BCD, keep_weights=False)
        return found

    def attention_maps(self, tensors: Mapping[str, Tensor], target_BCD: Tensor) -> list[Tensor]:
        """By behaviour, the last layer's weights (B, G, h, C, L + 1), the candidate's own last."""
        return self.attend(tensors, target_BCD, keep_weights=True)[1]

    def attend(
        self, tensors: Mapping[str, Tensor], target_BCD: Tensor, *, keep_weights: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The candidate's row through all layers, (G, B, C, S, D), and the last layer's weights."""
        conditions_GSMn2D = self.conditions()
        x = (target_BCD[:, :, None] + self.position[:, 0])[None]
        kept: list[Tensor] = []
        for m, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            project = layer.attention.project
            if m:
                projected = project(x)
            else:  # linear, so the candidate is projected once for all behaviours
                here = F.linear(self.position[:, 0], project.weight)
                projected = (project(target_BCD)[:, :, None] + here)[None]
            attended, weights = self.to_events(layer.attention, tensors, m, projected)
            kept = weights if keep_weights else []
            x = layer.after(x, attended, conditions_GSMn2D[:, None, None, :, m])
        present_BS = tensors["present"][:, None, :, None]
        return present_BS * x + (1 - present_BS) * self.absent, kept

    def to_events(
        self, attention: Attention, tensors: Mapping[str, Tensor], m: int, projected: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Attention of the candidates' rows to the events and to themselves, in layer m.

        projected: queries, keys and values of the candidates, (G, B, C, S, 3 D).
        """
        own_3GBCSD = projected.chunk(3, -1)
        found, kept = [], []
        for s, code in enumerate(self.codes):
            query, own_key, own_value = (
                attention.split(x[:, :, :, s]).permute(1, 0, 3, 2, 4) for x in own_3GBCSD
            )
            memory = tensors[f"memory{m}:{code}"]
            key, value = (attention.split(x).permute(0, 2, 3, 1, 4) for x in memory.chunk(2, -1))
            bias_B111L = tensors[f"bias:{code}"][:, None, None, None, :]
            weights = attention.weights(query, key, own_key, bias_B111L)
            mixed = weights[..., :-1] @ value + weights[..., -1:] * own_value
            found.append(mixed.permute(1, 0, 3, 2, 4).flatten(-2))
            kept.append(weights)
        return attention.out(torch.stack(found, 3)), kept


class SeparateInterests(nn.Module):
    """A transformer of its own for every task and behaviour: the control at the upper cost."""

    def __init__(self, parts: Sequence[Sequence[Interests]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.ModuleList(row) for row in parts)

    def rows(self) -> list[list[Interests]]:
        """By task, by behaviour."""
        return [
            [part for part in row if isinstance(part, Interests)]
            for row in self.parts
            if isinstance(row, nn.ModuleList)
        ]

    def history(self, tokens: Mapping[int, Tensor], valid: Mapping[int, Tensor]) -> dict:
        """As `Interests.history`, the task's number before each name."""
        found = {}
        for t, row in enumerate(self.rows()):
            for part in row:
                own = part.history(tokens, valid)
                found |= {f"{t}.{name}": x for name, x in own.items() if name != "present"}
                found[f"{t}.present.{part.codes[0]}"] = own["present"]
        return found

    def interests(self, tensors: Mapping[str, Tensor], target_BCD: Tensor) -> Tensor:
        """(T, B, C, S, D)."""
        tasks = []
        for t, row in enumerate(self.rows()):
            found = []
            for part in row:
                own = {name: tensors[f"{t}.{name}"] for name in part.names()}
                own["present"] = tensors[f"{t}.present.{part.codes[0]}"]
                found.append(part.interests(own, target_BCD))
            tasks.append(torch.cat(found, 3))
        return torch.cat(tasks)
