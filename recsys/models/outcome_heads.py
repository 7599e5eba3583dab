"""From a person's vector to probabilities: one head an outcome, a class for each kind of label.

    binary               logit; cross-entropy
    positive_unlabelled  logit; cross-entropy with labelled positives and unlabelled at half weight
                         each (life2vec, Nat. Comput. Sci. 2024): 0 means "not known to be 1"
    ordinal              one score, K - 1 ordered thresholds: P(y >= k) = sigmoid(score - t_k)
                         (proportional odds, McCullagh, J. R. Stat. Soc. B 1980)
    multi_class          K logits; cross-entropy

Departure from life2vec: its ordinal items are trained with a class-distance loss mixed with focal
and fully smoothed terms, whose outputs are no probabilities; proportional odds are.

Shape suffixes: B persons, D width, K classes, P columns of all outcomes side by side.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OutcomeKind = Literal["binary", "positive_unlabelled", "ordinal", "multi_class"]


@dataclass(frozen=True, slots=True)
class OutcomeShape:
    """What a head predicts. classes: values of the label, 0..classes - 1."""

    kind: OutcomeKind
    classes: int = 2

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes={self.classes} must be at least 2")
        if self.kind in ("binary", "positive_unlabelled") and self.classes != 2:
            raise ValueError(f"a {self.kind} outcome has 2 classes, not {self.classes}")


class Head(nn.Module, ABC):
    """One outcome. Labels are float, nan where the label is not known: these do not count."""

    @abstractmethod
    def forward(self, person_BD: Tensor) -> Tensor:
        """Probabilities (B, 1) of class 1, or (B, K) of every class."""

    @abstractmethod
    def known_loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Mean loss (nats) where every label is known and there is at least one."""

    def loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Mean loss (nats) over the known labels; 0 where none is."""
        known_B = ~label_B.isnan()
        if not known_B.any():
            return person_BD.sum() * 0
        return self.known_loss(person_BD[known_B], label_B[known_B])


class BinaryHead(Head):
    """Cross-entropy on one logit."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        assert classes == 2
        self.logit = nn.Linear(dim, 1)

    def forward(self, person_BD: Tensor) -> Tensor:
        """(B, 1)."""
        return self.logit(person_BD).sigmoid()

    def known_loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Mean over the persons."""
        return F.binary_cross_entropy_with_logits(self.logit(person_BD).squeeze(1), label_B)


class PositiveUnlabelledHead(BinaryHead):
    """Positives and unlabelled weigh one half each, whatever their numbers in the batch.

    The probabilities are those of a balanced population until they are calibrated.
    """

    def known_loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Half the mean over positives plus half the mean over the unlabelled."""
        logit_B = self.logit(person_BD).squeeze(1)
        each_B = F.binary_cross_entropy_with_logits(logit_B, label_B, reduction="none")
        share_B = torch.where(label_B > 0, label_B.sum(), (1 - label_B).sum())
        return (each_B / share_B).sum() / 2


class OrdinalHead(Head):
    """Proportional odds: classes are ranges of one score."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)
        spread = torch.linspace(-1.0, 1.0, classes - 1) if classes > 2 else torch.zeros(1)
        self.first = nn.Parameter(spread[:1].clone())
        self.steps = nn.Parameter((spread.diff().clamp(min=1e-3).exp() - 1).log())

    def thresholds(self) -> Tensor:
        """(K - 1,) ascending."""
        return torch.cat([self.first, self.first + F.softplus(self.steps).cumsum(0)])

    def forward(self, person_BD: Tensor) -> Tensor:
        """(B, K)."""
        above_Bk = (self.score(person_BD) - self.thresholds()).sigmoid()
        one_B1 = torch.ones_like(above_Bk[:, :1])
        return torch.cat([one_B1, above_Bk], 1) - torch.cat([above_Bk, one_B1 * 0], 1)

    def known_loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Mean negative log-likelihood of the class."""
        likelihood_B = self(person_BD).gather(1, label_B.long()[:, None]).squeeze(1)
        return -likelihood_B.clamp(min=1e-7).log().mean()


class MultiClassHead(Head):
    """Cross-entropy over K logits."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, classes)

    def forward(self, person_BD: Tensor) -> Tensor:
        """(B, K)."""
        return self.logits(person_BD).softmax(-1)

    def known_loss(self, person_BD: Tensor, label_B: Tensor) -> Tensor:
        """Mean over the persons."""
        return F.cross_entropy(self.logits(person_BD), label_B.long())


HEADS: Mapping[OutcomeKind, type[Head]] = {
    "binary": BinaryHead,
    "positive_unlabelled": PositiveUnlabelledHead,
    "ordinal": OrdinalHead,
    "multi_class": MultiClassHead,
}


class OutcomeHeads(nn.Module):
    """All outcomes of a model, side by side."""

    def __init__(self, dim: int, shapes: Sequence[OutcomeShape]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(HEADS[shape.kind](dim, shape.classes) for shape in shapes)

    def forward(self, person_BD: Tensor) -> Tensor:
        """Probabilities (B, P): a column of a binary outcome, K columns of another."""
        return torch.cat([head(person_BD) for head in self.heads], dim=1)

    def loss(self, person_BD: Tensor, labels_BT: Tensor) -> Tensor:
        """Mean over the outcomes of the mean loss over their known labels, nats."""
        losses = [
            head.loss(person_BD, labels_BT[:, t])
            for t, head in enumerate(self.heads)
            if isinstance(head, Head)
        ]
        return torch.stack(losses).mean()
