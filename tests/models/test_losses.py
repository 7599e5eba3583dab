import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys.models import losses
from recsys.models.losses import GBCE, FullSoftmax, Objective, SampledSoftmax

NUM_ITEMS = 11


def problem(num_targets: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """States (M, 4), targets (M,), items (12, 4) in float64."""
    draw = torch.Generator().manual_seed(seed)
    states_MD = torch.randn(num_targets, 4, generator=draw, dtype=torch.float64)
    items_VD = torch.randn(NUM_ITEMS + 1, 4, generator=draw, dtype=torch.float64)
    targets_M = torch.randint(1, NUM_ITEMS + 1, (num_targets,), generator=draw)
    return states_MD.requires_grad_(), targets_M, items_VD.requires_grad_()


def with_gradients(
    objective: Objective, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    loss = objective(states_MD, targets_M, items_VD)
    return loss, *torch.autograd.grad(3 * loss, (states_MD, items_VD))


class Naive(Objective):
    """The whole catalogue through torch's own cross-entropy."""

    def __call__(self, states_MD: Tensor, targets_M: Tensor, items_VD: Tensor) -> Tensor:
        return F.cross_entropy(states_MD @ items_VD[1:].T, targets_M - 1)


@settings(max_examples=30, deadline=None)
@given(num_targets=st.integers(1, 40), rows=st.integers(1, 41), seed=st.integers(0, 99))
def test_full_softmax_equals_torch_whatever_the_chunk(
    num_targets: int, rows: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "CPU_CHUNK", rows * NUM_ITEMS * 8)
        actual = with_gradients(FullSoftmax(), *problem(num_targets, seed))
    expected = with_gradients(Naive(), *problem(num_targets, seed))
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_full_softmax_passes_gradcheck() -> None:
    states_MD, targets_M, items_VD = problem(5)
    assert torch.autograd.gradcheck(
        lambda s, i: FullSoftmax()(s, targets_M, i), (states_MD, items_VD)
    )


def test_full_softmax_never_forms_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    softmax = torch.softmax

    def spy(logits: Tensor, dim: int, **options: object) -> Tensor:
        shapes.append(tuple(logits.shape))
        return softmax(logits, dim, **options)

    monkeypatch.setattr(losses, "CPU_CHUNK", 3 * NUM_ITEMS * 8)
    monkeypatch.setattr(torch, "softmax", spy)
    FullSoftmax()(*problem(8))
    assert shapes == [(3, NUM_ITEMS), (3, NUM_ITEMS), (2, NUM_ITEMS)]


def test_an_impossible_target_costs_87_nats_and_keeps_its_gradient() -> None:
    states = torch.tensor([[1000.0]], requires_grad=True)
    items = torch.tensor([[0.0], [-1.0], [1.0]])
    loss = FullSoftmax()(states, torch.tensor([1]), items)
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))
    loss.backward()
    torch.testing.assert_close(states.grad, torch.tensor([[2.0]]))  # p_2 * 1 - (-1)


def test_sampling_every_item_once_is_the_full_softmax() -> None:
    every = SampledSoftmax(torch.arange(NUM_ITEMS) + 1, torch.zeros(NUM_ITEMS))
    actual = with_gradients(every, *problem(20))
    expected = with_gradients(Naive(), *problem(20))
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sampled_softmax_by_hand() -> None:
    states = torch.tensor([[1.0, 0.0]])
    items = torch.tensor([[0.0, 0.0], [0.5, 9.0], [-1.0, 9.0], [2.0, 9.0]])
    log_count = torch.tensor([0.25, 2.0, 0.25]).log()
    objective = SampledSoftmax(torch.tensor([2, 1, 2]), log_count)  # 1, the target, drops out
    partition = math.exp(0.5) + 2 * math.exp(-1.0) / 0.25
    expected = -math.log(math.exp(0.5) / partition)
    assert objective(states, torch.tensor([1]), items).item() == pytest.approx(expected)


def test_a_sample_of_nothing_but_the_target_costs_nothing() -> None:
    states_MD, _, items_VD = problem(3)
    objective = SampledSoftmax(torch.tensor([4, 4]), torch.zeros(2))
    loss, states_grad, _ = with_gradients(objective, states_MD, torch.full((3,), 4), items_VD)
    assert loss.item() == 0
    torch.testing.assert_close(states_grad, torch.zeros_like(states_grad))


@pytest.mark.parametrize("popular", [False, True])
def test_logq_makes_the_partition_function_unbiased(popular: bool) -> None:
    states_MD, targets_M, items_VD = problem(1)
    draw, k = torch.Generator().manual_seed(1), 3
    share_N = torch.arange(1.0, NUM_ITEMS + 1, dtype=torch.float64) if popular else None
    if share_N is None:
        share_N = torch.ones(NUM_ITEMS, dtype=torch.float64)
    share_N = share_N / share_N.sum()
    logits_N = (states_MD @ items_VD[1:].T).detach()[0]
    target = logits_N[targets_M[0] - 1]
    estimates = []
    for _ in range(4_000):
        sampled_K = torch.multinomial(share_N, k, replacement=True, generator=draw) + 1
        objective = SampledSoftmax(sampled_K, (k * share_N[sampled_K - 1]).log())
        # loss = log Z - s_t
        estimates.append((objective(states_MD, targets_M, items_VD) + target).exp())
    expected = logits_N.exp().sum()
    estimate = torch.stack(estimates)
    error = estimate.std() / len(estimates) ** 0.5
    assert abs(estimate.mean() - expected) < 4 * error
    assert error < 0.03 * expected


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_equals_its_formula(calibration: float) -> None:
    states_MD, targets_M, items_VD = problem(6)
    sampled_K = torch.tensor([3, 7, 8])
    share = 3 / (NUM_ITEMS - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    total = 0.0
    for state, target in zip(states_MD, targets_M, strict=True):
        total -= beta * math.log(torch.sigmoid(state @ items_VD[target]).item())
        for j in sampled_K:
            if j != target:
                total -= math.log(1 - torch.sigmoid(state @ items_VD[j]).item())
    actual = GBCE(sampled_K, calibration, len(items_VD) - 1)(states_MD, targets_M, items_VD)
    assert actual.item() == pytest.approx(total / 6 / 4)


def test_uncalibrated_gbce_is_binary_cross_entropy() -> None:
    states_MD, _, items_VD = problem(6)
    targets_M, sampled_K = torch.tensor([1, 2, 1, 4, 5, 6]), torch.tensor([3, 7, 8])
    logits = states_MD @ items_VD[torch.cat([torch.tensor([0]), sampled_K])].T
    logits[:, 0] = (states_MD * items_VD[targets_M]).sum(1)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(
        GBCE(sampled_K, 0.0, len(items_VD) - 1)(states_MD, targets_M, items_VD), expected
    )
