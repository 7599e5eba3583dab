import pytest
import torch
from torch import nn

from recsys.models.tasks import TaskWeights, losses_by_task


def test_a_loss_is_a_mean_over_the_known_labels_of_its_task() -> None:
    scores = torch.tensor([[[2.0, -1.0], [0.5, 3.0]]])
    labels = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    known = torch.tensor([[[True, False], [True, False]]])
    log = nn.functional.logsigmoid
    expected = -(log(torch.tensor(2.0)) + log(torch.tensor(-0.5))) / 2
    found = losses_by_task(scores, labels, known)
    torch.testing.assert_close(found, torch.stack([expected, torch.tensor(0.0)]))


def test_fixed_weights_multiply() -> None:
    found = TaskWeights([2.0, 0.5], "fixed")(torch.tensor([3.0, 4.0]), [])
    assert found.item() == pytest.approx(2 * 3 + 0.5 * 4)


def test_uncertainty_settles_where_the_formula_is_least() -> None:
    weights = TaskWeights([1.0, 1.0], "uncertainty")
    losses = torch.tensor([0.1, 2.0])
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    for _ in range(2000):
        optimizer.zero_grad()
        weights(losses, []).backward()
        optimizer.step()
    # d/ds (e^-s L + s / 2) = 0 at s = ln 2 L
    torch.testing.assert_close(weights.log_noise.detach(), (2 * losses).log(), atol=1e-3, rtol=0)


def test_balanced_gradients_have_equal_norms() -> None:
    torch.manual_seed(0)
    shared = torch.randn(5, requires_grad=True)
    a, b = torch.randn(5), 100 * torch.randn(5)
    weights = TaskWeights([1.0, 1.0], "gradient")
    losses = torch.stack([(shared * a).sum(), (shared * b).sum()])
    weights(losses, [shared])
    share = weights.balance()
    assert share.mean().item() == pytest.approx(1)
    torch.testing.assert_close(share[0] * a.norm(), share[1] * b.norm())


def test_a_task_without_labels_keeps_its_norm() -> None:
    shared = torch.ones(3, requires_grad=True)
    weights = TaskWeights([1.0, 1.0], "gradient")
    weights(torch.stack([shared.sum(), 2 * shared.sum()]), [shared])
    before = weights.get_buffer("norms").clone()
    weights(torch.stack([shared.sum(), 0 * shared.sum()]), [shared])
    torch.testing.assert_close(weights.get_buffer("norms"), before)
    assert before[1] == 2 * before[0]
