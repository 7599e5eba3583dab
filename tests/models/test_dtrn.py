"""DTRN's exact identities (the specification, section 9)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys.models.dtrn import DTRN, DTRNConfig, specialisation
from recsys.models.interface import HistoryBatch, ItemBatch, RankingBatch
from recsys.models.multi_task import MultiTask, MultiTaskConfig
from recsys.models.task_heads import HeadSizes
from recsys.models.task_interests import FreeTable, HyperNetwork, Interests, SeparateInterests
from recsys.models.tasks import TaskSpec

NUM_ITEMS = 20
TASKS = (TaskSpec(name="click", events=("click",)), TaskSpec(name="buy", events=("buy",)))
CVR = TaskSpec(name="cvr", events=("buy",), among="click")
SIZES = HeadSizes(hidden=(12, 8), tower=(6,))


def config_of(**options: Any) -> DTRNConfig:
    given = {"dim": 8, "tasks": TASKS, "sizes": SIZES} | options
    return DTRNConfig(num_items=NUM_ITEMS, event_types=("click", "buy"), **given)


def made(config: MultiTaskConfig, seed: int = 0, *, shaken: bool = True) -> Any:
    """A model whose parameters are all far from their start, so that nothing hides in a zero."""
    torch.manual_seed(seed)
    model = DTRN(config) if isinstance(config, DTRNConfig) else MultiTask(config)
    if shaken:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
    return model.eval()


def batch_of(seed: int = 0, rows: int = 6, candidates: int = 4) -> RankingBatch:
    draw = torch.Generator().manual_seed(seed)

    def items(*shape: int) -> Tensor:
        return torch.randint(1, NUM_ITEMS + 1, shape, generator=draw)

    real = {1: torch.tensor([5, 3, 0, 1, 5, 2])[:rows], 2: torch.tensor([0, 2, 4, 1, 0, 3])[:rows]}
    histories = {
        code: HistoryBatch(items(rows, 5) * (torch.arange(5) < length[:, None]))
        for code, length in real.items()
    }
    labels = (torch.rand(rows, candidates, 2, generator=draw) < 0.4).float()
    return RankingBatch(
        HistoryBatch(torch.zeros(rows, 0, dtype=torch.long), by_behaviour=histories),
        ItemBatch(items(rows, candidates)),
        labels,
        torch.ones_like(labels, dtype=torch.bool),
    )


def tensors_of(model: MultiTask, batch: RankingBatch) -> dict[str, Tensor]:
    return model.tensors(batch.history, batch.candidates)


def interests_of(model: MultiTask, batch: RankingBatch) -> Tensor:
    tensors = tensors_of(model, batch)
    return model.interests.interests(tensors, model.summed(tensors["target"]))


def test_a_silent_hypernetwork_is_a_plain_transformer_for_all_tasks() -> None:
    model, batch = made(config_of()), batch_of()
    assert isinstance(model.interests.conditions, HyperNetwork)
    for parameter in model.interests.conditions.last.parameters():
        nn.init.zeros_(parameter)
    found = interests_of(model, batch)
    assert torch.equal(found[0], found[1])
    plain = made(config_of(interest="shared"))
    plain.load_state_dict(model.state_dict(), strict=False)
    nn.init.zeros_(plain.interests.conditions.values)
    plain.interests.conditions.values.data[..., 0, :] = 1
    torch.testing.assert_close(interests_of(plain, batch)[0], found[0])


def test_silent_gates_leave_the_plain_top() -> None:
    model, batch = made(config_of(interest="shared")), batch_of()
    for parameter in model.refinement.last.parameters():
        nn.init.zeros_(parameter)
    plain = made(MultiTaskConfig(
        num_items=NUM_ITEMS, event_types=("click", "buy"), dim=8, tasks=TASKS, sizes=SIZES
    ))  # fmt: skip
    plain.load_state_dict(model.state_dict(), strict=False)
    gates = model.refinement.gates(torch.randn(1, 3, model.blocks * 8))
    assert torch.equal(gates, torch.ones_like(gates))
    torch.testing.assert_close(
        model.score(batch.history, batch.candidates), plain.score(batch.history, batch.candidates)
    )


def test_gates_are_one_at_the_start() -> None:
    model = made(config_of(), shaken=False)
    gates = model.refinement.gates(torch.randn(2, 3, model.blocks * 8))
    assert torch.equal(gates, torch.ones_like(gates))


def test_equal_type_embeddings_give_equal_interests() -> None:
    model, batch = made(config_of()), batch_of()
    assert (interests_of(model, batch)[0] - interests_of(model, batch)[1]).abs().max() > 0.1
    model.interests.conditions.task.weight.data[1] = model.interests.conditions.task.weight.data[0]
    found = interests_of(model, batch)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("layers", [1, 2])
def test_the_order_of_events_is_in_their_positions_alone(layers: int) -> None:
    model, batch = made(config_of(layers=layers)), batch_of()
    full = batch.history.by_behaviour[1].items[:1]
    other = full[:, [3, 0, 4, 2, 1]]
    moved = replace(batch.history, by_behaviour={
        **batch.history.by_behaviour,
        1: HistoryBatch(torch.cat([other, batch.history.by_behaviour[1].items[1:]])),
    })  # fmt: skip
    shuffled = replace(batch, history=moved)
    assert (interests_of(model, batch) - interests_of(model, shuffled)).abs().max() > 1e-3
    model.interests.position.data[:, 1:] = model.interests.position.data[:, 1:2].clone()
    torch.testing.assert_close(interests_of(model, batch), interests_of(model, shuffled))


@pytest.mark.parametrize("layers", [1, 2])
def test_what_stands_in_the_padding_changes_nothing(layers: int) -> None:
    model, batch = made(config_of(layers=layers)), batch_of()
    found = interests_of(model, batch)
    model.embedding.tables.weight("item").data[0] = 7.0  # what the padding looks up
    torch.testing.assert_close(interests_of(model, batch), found)


def test_the_gradient_of_one_loss_leaves_the_other_tasks_parts_alone() -> None:
    model, batch = made(config_of(head="mmoe")), batch_of()
    losses, _ = model.task_losses(batch)
    losses[0].backward()
    for part in (model.head.towers, model.refinement):
        for name, parameter in part.named_parameters():
            assert parameter.grad[1].abs().max() == 0, name
            assert parameter.grad[0].abs().max() > 0, name
    task = model.interests.conditions.task.weight.grad
    assert task[1].abs().max() == 0
    assert task[0].abs().max() > 0


@pytest.mark.parametrize("interest", ["hypernetwork", "task_only", "behaviour_only", "table"])
@pytest.mark.parametrize("layers", [1, 2])
def test_folded_constants_give_the_same_scores(interest: str, layers: int) -> None:
    model, batch = made(config_of(interest=interest, layers=layers)), batch_of()
    folded = model.folded()
    assert not [module for module in folded.modules() if isinstance(module, HyperNetwork)]
    expected = model.score(batch.history, batch.candidates)
    found = folded.score(batch.history, batch.candidates)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def apart(model: Any) -> DTRN:
    """The same function, a transformer for every task and behaviour."""
    config = replace(model.config, interest="separate")
    found = made(config)
    found.load_state_dict(model.state_dict(), strict=False)
    shared = model.interests
    conditions = shared.conditions()
    assert isinstance(found.interests, SeparateInterests)
    for t, row in enumerate(found.interests.rows()):
        for s, part in enumerate(row):
            part.layers.load_state_dict(shared.layers.state_dict())
            part.position.data = shared.position.data[s : s + 1]
            part.absent.data = shared.absent.data[s : s + 1]
            part.conditions = FreeTable(conditions[t, s][None, None].detach())
    return found


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_attention_once_for_all_tasks_equals_a_transformer_each(layers: int) -> None:
    model, batch = made(config_of(layers=layers)), batch_of()
    torch.testing.assert_close(
        model.score(batch.history, batch.candidates),
        apart(model).score(batch.history, batch.candidates),
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_the_transformer_is_torchs(layers: int) -> None:
    """nn.MultiheadAttention over [events, candidate], where events do not see the candidate."""
    model, batch = made(config_of(layers=layers)), batch_of()
    found = interests_of(model, batch)
    part: Interests = model.interests
    conditions = part.conditions()
    table = model.embedding.tables.weight("item")
    for s, code in enumerate((1, 2)):
        for b in range(6):
            items = batch.history.by_behaviour[code].items[b]
            events = items[items > 0]
            length = len(events)
            for c in range(4):
                row = torch.cat([events, batch.candidates.ids[b, c : c + 1]])
                rank = torch.arange(length, -1, -1)
                hidden = torch.zeros(length + 1, length + 1, dtype=torch.bool)
                hidden[:-1, -1] = True
                for t in range(2):
                    x = table[row] + part.position[s, rank]
                    for m, layer in enumerate(part.layers):
                        x = reference_layer(layer, x, hidden, conditions[t, s, m])
                    expected = x[-1] if length else part.absent[s]
                    torch.testing.assert_close(found[t, b, c, s], expected, atol=1e-5, rtol=1e-4)


def reference_layer(layer: Any, x: Tensor, hidden: Tensor, conditions: Tensor) -> Tensor:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.in_proj_weight.data = layer.attention.project.weight.data
    attention.in_proj_bias.data = layer.attention.project.bias.data
    attention.out_proj.load_state_dict(layer.attention.out.state_dict())
    attended, _ = attention(x[None], x[None], x[None], attn_mask=hidden)
    for n, added in enumerate((attended[0], None)):
        x = x + (layer.feed(x) if added is None else added)
        normal = nn.LayerNorm(8, elementwise_affine=False)(x)
        x = conditions[n, 0] * normal + conditions[n, 1]
    return x


def test_maps_are_distributions_over_events_and_the_candidate() -> None:
    model, batch = made(config_of(layers=2)), batch_of()
    tensors = tensors_of(model, batch)
    maps = model.interests.attention_maps(tensors, model.summed(tensors["target"]))
    assert [tuple(m.shape) for m in maps] == [(6, 2, 2, 4, 6)] * 2
    for s, code in enumerate((1, 2)):
        torch.testing.assert_close(maps[s].sum(-1), torch.ones(6, 2, 2, 4))
        padding = batch.history.by_behaviour[code].items == 0
        assert (maps[s][..., :-1].amax((1, 2, 3))[padding] == 0).all()


def test_specialisation_sees_tasks_part() -> None:
    batch = batch_of()
    inert, apart_ = made(config_of(interest="shared")), made(config_of(interest="table"))
    quiet = specialisation(inert, tensors_of(inert, batch))
    loud = specialisation(apart_, tensors_of(apart_, batch))
    assert quiet["cosine.1"] == 1
    assert quiet["scale_spread"] == 0
    assert loud["cosine.1"] < 0.9
    assert loud["scale_spread"] > 0.1


@pytest.mark.parametrize("head", ["shared_bottom", "mmoe", "ple", "esmm"])
@pytest.mark.parametrize("bottom", ["shared", "dtrn"])
def test_every_head_takes_one_representation_or_one_a_task(head: str, bottom: str) -> None:
    options = {"head": head, "tasks": (*TASKS, CVR)}
    if bottom == "shared":
        options |= {"interest": "shared", "refine": "none"}
    model, batch = made(config_of(**options)), batch_of()
    scores = model.score(batch.history, batch.candidates)
    assert scores.shape == (6, 4, 3)
    assert scores.std((0, 1)).min() > 1e-3


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ((TASKS[0],), "first task"),
        ((TASKS[0], CVR), "known of everything shown"),
        ((*TASKS, replace(CVR, among="buy")), "must be among"),
    ],
)
def test_esmm_refuses_tasks_that_it_cannot_express(tasks: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        config_of(head="esmm", tasks=tasks)


def test_esmm_learns_conversions_from_everything_shown() -> None:
    """The conditional task has no loss of its own, but its network learns."""
    model = made(config_of(head="esmm", tasks=(*TASKS, CVR)))
    batch = batch_of()
    labels = torch.cat([batch.labels, batch.labels[..., 1:]], -1)
    known = torch.ones_like(labels, dtype=torch.bool)
    known[..., 2] = labels[..., 0] > 0
    other = torch.where(torch.arange(3) == 2, 1 - labels, labels)
    loss = model.loss(replace(batch, labels=labels, known=known))
    torch.testing.assert_close(loss, model.loss(replace(batch, labels=other, known=known)))
    loss.backward()
    assert model.head.towers.out.weight.grad[1].abs().max() > 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"behaviours": ("like",)}, r"behaviours \['like'\]"),
        ({"dim": 9}, "no multiple of heads"),
        ({"task_weights": (1.0,)}, "give one each"),
        ({"fields": ("price",)}, "no item columns"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        config_of(**options)


def test_behaviours_that_are_not_read_are_no_input() -> None:
    model = made(config_of(behaviours=("buy",)))
    assert model.history_inputs == ("items:2",)
    assert model.blocks == 2
