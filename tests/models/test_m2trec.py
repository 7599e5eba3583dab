"""M2TRec: acceptance tests of its specification that need no real data."""

import pytest
import torch
from torch import Tensor

from recsys.models.attributes import AttentionEmbedding
from recsys.models.interface import Column, HistoryBatch, ItemBatch
from recsys.models.losses import FullSoftmax, SampledSoftmax
from recsys.models.m2trec import M2TRec, M2TRecConfig
from recsys.models.pooling import POOLS
from recsys.training.kinds import model_config

KINDS, COLOURS = 8, 9
NUM_ITEMS = KINDS * COLOURS
COLUMNS = (
    Column(name="kind", kind="category", size=KINDS + 2),
    Column(name="colour", kind="category", size=COLOURS + 2),
)
HELD_OUT = torch.tensor([1 + kind * COLOURS + (kind * 2) % COLOURS for kind in range(KINDS)])
"""Items, one of each kind, that no training session holds."""


def table(shuffled: bool = False) -> dict[str, Tensor]:
    """Item 1 + kind * COLOURS + colour has these two attributes, or those of another item."""
    ids = torch.arange(NUM_ITEMS)
    if shuffled:
        ids = ids[torch.randperm(NUM_ITEMS, generator=torch.Generator().manual_seed(3))]
    pad = torch.zeros(1, dtype=torch.long)
    return {
        "kind": torch.cat([pad, 2 + ids // COLOURS]),
        "colour": torch.cat([pad, 2 + ids % COLOURS]),
    }


def sessions(count: int, length: int, seed: int) -> Tensor:
    """(count, length) sessions of one colour each, whose kinds go round."""
    draw = torch.Generator().manual_seed(seed)
    start, colour = (torch.randint(n, (count, 1), generator=draw) for n in (KINDS, COLOURS))
    kinds = (start + torch.arange(length)) % KINDS
    return 1 + kinds * COLOURS + colour


def model_of(**options: object) -> M2TRec:
    torch.manual_seed(0)
    sizes = {"dim": 32, "category_dim": 16, "num_blocks": 1, "num_heads": 2, "dropout": 0.0}
    return M2TRec(M2TRecConfig(columns=COLUMNS, max_len=6, **{**sizes, **options}))  # pyright: ignore


def trained(model: M2TRec, attributes: dict[str, Tensor], steps: int = 150) -> M2TRec:
    """On sessions without a held-out item as a target or in the history."""
    catalogue = ItemBatch(torch.arange(NUM_ITEMS + 1), attributes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        items_BL = sessions(96, 4, seed=step)
        items_BL = items_BL[~torch.isin(items_BL, HELD_OUT).any(1)]
        batch = HistoryBatch(items_BL[:, :-1], targets=items_BL[:, 1:], catalogue=catalogue)
        optimizer.zero_grad()
        model.loss(batch, FullSoftmax()).backward()
        optimizer.step()
    return model.eval()


def ranks_of_held_out(model: M2TRec, attributes: dict[str, Tensor]) -> Tensor:
    """Rank, from 1, of each held-out item after the two items of its colour before it."""
    catalogue = ItemBatch(torch.arange(NUM_ITEMS + 1), attributes)
    kind, colour = (HELD_OUT - 1) // COLOURS, (HELD_OUT - 1) % COLOURS
    before = [1 + ((kind - back) % KINDS) * COLOURS + colour for back in (2, 1)]
    items_BL = torch.stack(before, 1)
    with torch.inference_mode():
        vectors_VD = model.encode_items(catalogue)
        histories = HistoryBatch(items_BL, attributes={"vector": vectors_VD[items_BL]})
        scores_BN = model.encode_history(histories) @ vectors_VD[1:].T
    own_B1 = scores_BN.gather(1, HELD_OUT[:, None] - 1)
    return 1 + (scores_BN > own_B1).sum(1)


def test_parameters_do_not_depend_on_the_catalogue() -> None:
    facts = {"columns": COLUMNS, "num_behaviours": 1}
    counts = []
    for num_items in (10_000, 1_000_000):
        config = model_config("m2trec", {}, {**facts, "num_items": num_items})
        counts.append(sum(parameter.numel() for parameter in M2TRec(config).parameters()))
    assert counts[0] == counts[1]


def test_items_that_training_never_saw_are_found_by_their_attributes() -> None:
    attributes = table()
    ranks = ranks_of_held_out(trained(model_of(), attributes), attributes)
    assert (ranks <= 3).float().mean() >= 0.75, ranks.tolist()


def test_shuffled_attributes_leave_nothing_to_find_them_by() -> None:
    attributes = table(shuffled=True)
    ranks = ranks_of_held_out(trained(model_of(), attributes), attributes)
    assert (ranks <= 3).float().mean() <= 0.4, ranks.tolist()


def test_cached_vectors_and_attributes_by_position_give_the_same_session() -> None:
    attributes, items_BL = table(), sessions(5, 4, seed=1)
    cached, plain = model_of().eval(), model_of(cached_vectors=False).eval()
    assert cached.history_inputs == ("items", "item.vector")
    assert plain.history_inputs == ("items", "item.kind", "item.colour")
    with torch.inference_mode():
        vectors_VD = cached.encode_items(ItemBatch(torch.arange(NUM_ITEMS + 1), attributes))
        by_vector = HistoryBatch(items_BL, attributes={"vector": vectors_VD[items_BL]})
        by_field = HistoryBatch(
            items_BL, attributes={name: codes[items_BL] for name, codes in attributes.items()}
        )
        torch.testing.assert_close(cached.encode_history(by_vector), plain.encode_history(by_field))


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_ignores_padding_and_bears_an_empty_session(pool: str) -> None:
    model = model_of(pool=pool).eval()
    x_BLD = torch.randn(3, 4, 32)
    real_BL = torch.arange(4) < torch.tensor([4, 2, 0])[:, None]
    with torch.inference_mode():
        whole = model.encode_session(x_BLD, real_BL)
        alone = model.encode_session(x_BLD[1:2, :2], real_BL[1:2, :2])
    assert torch.isfinite(whole).all()
    torch.testing.assert_close(whole[1:2], alone)


def test_attention_over_tokens_weighs_them_by_a_learned_score_and_ignores_padding() -> None:
    torch.manual_seed(0)
    tokens = AttentionEmbedding(10, 4, padding_idx=0)
    codes_NW = torch.tensor([[3, 5, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
    with torch.inference_mode():
        found_ND = tokens(codes_NW)
        two_2D = tokens.weight[[3, 5]]
        expected_D = tokens.weigh(two_2D).squeeze(1).softmax(0) @ two_2D
        torch.testing.assert_close(found_ND[0], expected_D)
        torch.testing.assert_close(found_ND[1], tokens.weight[7])
        torch.testing.assert_close(found_ND[:2], tokens(codes_NW[:2, :2]))
    assert (found_ND[2] == 0).all()
    assert not torch.allclose(found_ND[0], two_2D.mean(0))


def test_a_random_part_of_the_prefixes_and_hidden_values_only_in_training() -> None:
    model = model_of(prefixes=1, unknown=0.5)
    items_BL = sessions(4, 5, seed=0)
    catalogue = ItemBatch(torch.arange(NUM_ITEMS + 1), table())
    batch = HistoryBatch(items_BL[:, :-1], targets=items_BL[:, 1:], catalogue=catalogue)
    assert batch.targets is not None
    assert len(model._chosen(batch.targets)[0]) == 4
    assert not torch.equal(model.encode_items(catalogue), model.encode_items(catalogue))
    model.eval()
    assert len(model._chosen(batch.targets)[0]) == 16
    assert torch.equal(model.encode_items(catalogue), model.encode_items(catalogue))


def test_the_category_weight_falls_while_it_trains_and_is_saved() -> None:
    model = model_of(category_weight=2.0, category_weight_end=1.0, category_decay_steps=4)
    items_BL = sessions(4, 5, seed=0)
    catalogue = ItemBatch(torch.arange(NUM_ITEMS + 1), table())
    batch = HistoryBatch(items_BL[:, :-1], targets=items_BL[:, 1:], catalogue=catalogue)
    weights = []
    for _ in range(6):
        weights.append(float(model._category_weight()))
        model.loss(batch, FullSoftmax())
    assert weights == [2.0, 1.75, 1.5, 1.25, 1.0, 1.0]
    assert "steps" in model.state_dict()
    model.eval().loss(batch, FullSoftmax())
    assert float(model.steps) == 6


def test_a_sample_encodes_only_what_it_compares() -> None:
    model = model_of().eval()
    items_BL = sessions(2, 3, seed=0)
    catalogue = ItemBatch(torch.arange(NUM_ITEMS + 1), table())
    batch = HistoryBatch(items_BL[:, :-1], targets=items_BL[:, 1:], catalogue=catalogue)
    encoded: list[int] = []
    whole = model.encode_items
    model.encode_items = lambda items: encoded.append(len(items.ids)) or whole(items)  # type: ignore[method-assign]
    model.loss(batch, SampledSoftmax(torch.tensor([3, 70, 3]), torch.zeros(3)))
    model.loss(batch, FullSoftmax())
    assert encoded[0] <= 1 + items_BL.numel() + 2
    assert encoded[1] == NUM_ITEMS + 1


WRONG = {
    "no column": ({"columns": ()}, "no item column"),
    "a number": (
        {"columns": (*COLUMNS, Column(name="price", kind="numeric")), "fields": ("price",)},
        "features.buckets",
    ),
    "no such head": ({"columns": COLUMNS, "heads": ("brand",)}, "brand"),
    "widths": ({"columns": COLUMNS, "dim": 30, "num_heads": 4}, "multiple"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_configuration_that_cannot_work_is_refused(case: str) -> None:
    options, expected = WRONG[case]
    with pytest.raises(ValueError, match=expected):
        M2TRecConfig(**options)
