"""Two tasks whose causes are known: worlds to study joint training in.

Every item has four fields of `KINDS` values, each with an effect, and a kind. A user has two
histories, A and B, of one kind each. Log-odds of the tasks:

    gates      the specification's section 9: a = A + field 1 + field 3, b = B - A + field 2
               - field 3; field 4 is noise. A is whether the candidate's kind is that of history A
    conflict   a = field 1 + field 2, b = field 3 + field 4: what serves one is noise to the other,
               and a bottom of one unit can hold one of them
    agree      both tasks: field 1 + 2 + 3 + 4

Shape suffixes: B rows, L positions, T tasks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.models.interface import Column, HistoryBatch, ItemBatch, RankingBatch

KINDS = 8
LENGTH = 8
"""Events of a history."""
FAITHFUL = 0.7
"""Share of a history's events that are of its taste."""
COLUMNS = tuple(
    Column(name=name, kind="category", size=2 + KINDS)
    for name in ("field_1", "field_2", "field_3", "field_4", "kind")
)
"""Four fields, and the kind that histories are about."""


@dataclass(frozen=True)
class World:
    """Hidden truth of one seed."""

    name: str
    attributes: np.ndarray
    """(N + 1, 5): four fields and the kind, each 0..KINDS - 1."""
    effects: np.ndarray
    """(4, KINDS): of the fields."""

    @classmethod
    def of(cls, name: str, seed: int, num_items: int) -> "World":
        """Draw it."""
        draw = np.random.default_rng([seed, 1])
        attributes = draw.integers(0, KINDS, (num_items + 1, len(COLUMNS)))
        return cls(name, attributes, draw.normal(size=(4, KINDS)))

    @property
    def num_items(self) -> int:
        """Without padding."""
        return len(self.attributes) - 1

    def rows(self, seed: int, count: int, sparse: float = 1.0) -> RankingBatch:
        """`count` rows of one candidate each; task b is known for a share `sparse` of them."""
        draw = np.random.default_rng([seed, 2, count])
        histories = [self.history(draw, count) for _ in range(2)]
        candidates = draw.integers(1, self.num_items + 1, count)
        own = self.attributes[candidates]
        logits = self.logits(own, [taste == own[:, 4] for _, taste in histories])
        labels = draw.random(logits.shape) < 1 / (1 + np.exp(-logits))
        known = np.ones_like(labels)
        known[:, 1] = draw.random(count) < sparse
        return RankingBatch(
            HistoryBatch(
                torch.zeros(count, 0, dtype=torch.long),
                by_behaviour={1 + i: self.batch(items) for i, (items, _) in enumerate(histories)},
            ),
            ItemBatch(torch.from_numpy(candidates)[:, None], self.columns(candidates[:, None])),
            torch.from_numpy(labels[:, None].astype(np.float32)),
            torch.from_numpy(known[:, None]),
        )

    def logits(self, own: np.ndarray, match: list[np.ndarray]) -> np.ndarray:
        """(B, 2) of candidates with attributes (B, 5); match: whether their kind is a taste."""
        field = [self.effects[f, own[:, f]] for f in range(4)]
        if self.name == "gates":
            a, b = (2.0 * (hit - 1 / KINDS) for hit in match)
            return np.stack([a + field[0] + field[2], b - a + field[1] - field[2]], 1)
        if self.name == "agree":
            return np.stack([sum(field), sum(field)], 1)
        return np.stack([1.5 * (field[0] + field[1]), 1.5 * (field[2] + field[3])], 1)

    def history(self, draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Items (B, L) and the kind (B,) that most of them share."""
        taste = draw.integers(0, KINDS, count)
        items = draw.integers(1, self.num_items + 1, (count, LENGTH))
        faithful = draw.random((count, LENGTH)) < FAITHFUL
        for kind in range(KINDS):
            members = 1 + np.flatnonzero(self.attributes[1:, 4] == kind)
            chosen = faithful & (taste == kind)[:, None]
            items[chosen] = draw.choice(members, int(chosen.sum()))
        return items, taste

    def batch(self, items: np.ndarray) -> HistoryBatch:
        """Of one behaviour."""
        return HistoryBatch(torch.from_numpy(items), attributes=self.columns(items))

    def columns(self, items: np.ndarray) -> dict[str, Tensor]:
        """Item attributes by name."""
        found = torch.from_numpy(2 + self.attributes[items]).int()
        return {column.name: found[..., i] for i, column in enumerate(COLUMNS)}


def take(batch: RankingBatch, rows: Tensor) -> RankingBatch:
    """Some rows of a batch."""

    def part(history: HistoryBatch) -> HistoryBatch:
        attributes = {name: x[rows] for name, x in history.attributes.items()}
        return HistoryBatch(history.items[rows], attributes=attributes)

    history = HistoryBatch(
        batch.history.items[rows],
        by_behaviour={code: part(h) for code, h in batch.history.by_behaviour.items()},
    )
    attributes = {name: x[rows] for name, x in batch.candidates.attributes.items()}
    candidates = ItemBatch(batch.candidates.ids[rows], attributes)
    return RankingBatch(history, candidates, batch.labels[rows], batch.known[rows])


def of_tasks(batch: RankingBatch, tasks: tuple[int, ...]) -> RankingBatch:
    """The labels of some tasks only."""
    which = list(tasks)
    return RankingBatch(
        batch.history, batch.candidates, batch.labels[..., which], batch.known[..., which]
    )
