"""Heads of outcomes: probabilities that are some, losses that count what is known."""

import math

import pytest
import torch

from recsys.models.outcome_heads import (
    BinaryHead,
    MultiClassHead,
    OrdinalHead,
    OutcomeHeads,
    OutcomeShape,
    PositiveUnlabelledHead,
)

SHAPES = (
    OutcomeShape("binary"),
    OutcomeShape("positive_unlabelled"),
    OutcomeShape("ordinal", 4),
    OutcomeShape("multi_class", 3),
)


def test_columns_are_probabilities() -> None:
    torch.manual_seed(0)
    found_BP = OutcomeHeads(6, SHAPES)(torch.randn(50, 6) * 3)
    assert found_BP.shape == (50, 1 + 1 + 4 + 3)
    assert ((found_BP >= 0) & (found_BP <= 1)).all()
    for columns in (slice(2, 6), slice(6, 9)):
        torch.testing.assert_close(found_BP[:, columns].sum(1), torch.ones(50))


def test_unknown_labels_do_not_count() -> None:
    torch.manual_seed(0)
    heads, person_BD = OutcomeHeads(6, SHAPES), torch.randn(4, 6)
    labels_BT = torch.tensor([[1, 0, 3, 2], [0, 1, 0, 0], [1, 1, 2, 1], [math.nan] * 4])
    known = heads.loss(person_BD[:3], labels_BT[:3])
    torch.testing.assert_close(heads.loss(person_BD, labels_BT), known)
    assert heads.loss(person_BD[3:], labels_BT[3:]).item() == 0


def test_positives_and_unlabelled_weigh_one_half_each() -> None:
    torch.manual_seed(0)
    head, person_BD = PositiveUnlabelledHead(6, 2), torch.randn(10, 6)
    label_B = torch.tensor([1.0] * 2 + [0.0] * 8)
    p_B = head(person_BD)[:, 0]
    by_hand = 0.5 * -p_B[:2].log().mean() + 0.5 * -(1 - p_B[2:]).log().mean()
    torch.testing.assert_close(head.loss(person_BD, label_B), by_hand)
    plain = BinaryHead(6, 2)
    plain.load_state_dict(head.state_dict())
    every = torch.cat([-p_B[:2].log(), -(1 - p_B[2:]).log()]).mean()
    torch.testing.assert_close(plain.loss(person_BD, label_B), every)


def test_ordinal_classes_are_ranges_of_one_score() -> None:
    torch.manual_seed(0)
    head = OrdinalHead(1, 5)
    with torch.no_grad():
        head.score.weight.fill_(1.0)
    person_BD = torch.tensor([[-9.0], [9.0]])
    assert head(person_BD).argmax(1).tolist() == [0, 4]
    assert (head.thresholds().diff() > 0).all()
    above = torch.sigmoid(0.5 - head.thresholds())  # P(y >= k) by the formula
    found = head(torch.tensor([[0.5]]))[0]
    torch.testing.assert_close(found[1:].flip(0).cumsum(0).flip(0), above)


@pytest.mark.parametrize("head", [OrdinalHead(3, 4), MultiClassHead(3, 4)])
def test_a_head_learns_classes_that_are_there(head: torch.nn.Module) -> None:
    draw = torch.Generator().manual_seed(0)
    label_B = torch.randint(0, 4, (200,), generator=draw).float()
    person_BD = label_B[:, None] + torch.randn(200, 3, generator=draw) * 0.1
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = head.loss(person_BD, label_B)  # type: ignore[operator]
        loss.backward()
        optimizer.step()
    assert (head(person_BD).argmax(1) == label_B).float().mean() > 0.95


@pytest.mark.parametrize(
    ("kind", "classes"), [("binary", 3), ("positive_unlabelled", 4), ("ordinal", 1)]
)
def test_shapes_that_make_no_sense_are_refused(kind: str, classes: int) -> None:
    with pytest.raises(ValueError, match="class"):
        OutcomeShape(kind, classes)  # type: ignore[arg-type]
