"""The heads of multi-task rankers, by hand."""

from dataclasses import replace

import torch

from recsys.models.task_heads import ESMM, PLE, HeadSizes, MMoE, SharedBottom
from recsys.models.tasks import TaskSpec

TASKS = (TaskSpec(name="click", events=("click",)), TaskSpec(name="buy", events=("buy",)))
CVR = TaskSpec(name="cvr", events=("buy",), among="click")
SIZES = HeadSizes(hidden=(12, 8), tower=(6,))


def test_one_expert_is_a_shared_bottom() -> None:
    sizes = replace(SIZES, experts=1)
    torch.manual_seed(0)
    one, shared = MMoE(TASKS, 10, sizes), SharedBottom(TASKS, 10, sizes)
    shared.bottom.load_state_dict(one.experts.state_dict())
    shared.towers.load_state_dict(one.towers.state_dict())
    x = torch.randn(2, 7, 10)
    torch.testing.assert_close(one(x), shared(x))
    torch.testing.assert_close(one(x[:1]), one(x[:1].expand(2, -1, -1)))  # the same for all tasks


def test_ple_of_one_level_by_hand() -> None:
    sizes = HeadSizes(experts=1, task_experts=1, levels=1, hidden=(3,), tower=())
    torch.manual_seed(0)
    head = PLE(TASKS, 4, sizes)
    x = torch.randn(2, 5, 4)
    found = head(x)
    for t in range(2):
        own = head.own[0][t].first(x[t]).relu()
        common = head.common[0].first(x.mean(0)).relu()
        gate = head.gates[0]
        share = (x[t] @ gate.weight[t] + gate.bias[t]).softmax(-1)
        both = share[:, :1] * own + share[:, 1:] * common
        expected = (both @ head.towers.out.weight[t] + head.towers.out.bias[t])[:, 0]
        torch.testing.assert_close(found[t], expected)


def test_a_second_level_of_ple_goes_on_with_the_mixtures() -> None:
    torch.manual_seed(0)
    two = PLE(TASKS, 10, replace(SIZES, levels=2))
    assert two(torch.randn(2, 7, 10)).shape == (2, 7)
    assert two(torch.randn(1, 7, 10)).shape == (2, 7)


def test_esmm_multiplies_probabilities() -> None:
    torch.manual_seed(0)
    head = ESMM((*TASKS, CVR), 10, SIZES)
    click, buy, cvr = head(5 * torch.randn(3, 50, 10)).double().sigmoid()
    torch.testing.assert_close(buy, click * cvr, rtol=1e-5, atol=1e-9)
    assert head.learned == (True, True, False)
