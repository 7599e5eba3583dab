"""The identities of DARE (specification 8), each against its definition."""

import math

import pytest
import torch
from torch import Tensor

from recsys.models.dare import DARE, DAREConfig
from recsys.models.dare_baselines import DIN, TWIN, SIMHard
from recsys.models.interest import InterestRanker, recency_ranks, top_k, top_k_by_blocks
from recsys.models.interest_fields import InterestConfig
from recsys.models.interface import Column, HistoryBatch, ItemBatch, RankingBatch

COLUMN = Column(name="colour", kind="category", size=6)
NUM_ITEMS = 40


def sized(kind: type[InterestRanker], **options: object) -> InterestRanker:
    sizes = {
        "num_items": NUM_ITEMS,
        "columns": (COLUMN,),
        "max_len": 20,
        "dim": 4,
        "top_k": 5,
        "hidden": (8, 4),
        "init": "torch",
    }
    torch.manual_seed(0)
    config = DAREConfig if kind is DARE else InterestConfig
    return kind(config(**(sizes | options)))  # pyright: ignore[reportArgumentType]


def colours(items: Tensor) -> dict[str, Tensor]:
    return {"colour": torch.where(items > 0, 2 + items % 4, 0)}


def batch(lengths: list[int], width: int = 12, seed: int = 0) -> tuple[HistoryBatch, ItemBatch]:
    draw = torch.Generator().manual_seed(seed)
    items = torch.randint(1, NUM_ITEMS + 1, (len(lengths), width), generator=draw)
    items = items * (torch.arange(width) < torch.tensor(lengths)[:, None])
    candidates = torch.randint(1, NUM_ITEMS + 1, (len(lengths), 3), generator=draw)
    return HistoryBatch(items, attributes=colours(items)), ItemBatch(
        candidates, colours(candidates)
    )


def labelled(history: HistoryBatch, candidates: ItemBatch) -> RankingBatch:
    labels = (candidates.ids % 2).float().unsqueeze(-1)
    return RankingBatch(history, candidates, labels, torch.ones_like(labels, dtype=torch.bool))


def test_gathering_the_top_k_equals_a_masked_softmax() -> None:
    model = sized(DARE).eval()
    tensors = model.tensors(*batch([12, 12]))
    scores = model.attention_scores(tensors)
    kept = scores >= scores.topk(5, dim=2).values[..., -1:]
    weights = scores.masked_fill(~kept, -math.inf).softmax(-1)
    expected = model.head(model.features(tensors, weights @ tensors["value"]))
    found = model.rank(tensors | model.search(tensors))["scores"].squeeze(-1)
    torch.testing.assert_close(found, expected)


def test_the_product_with_the_target_factors_out_of_the_sum() -> None:
    weights, values, target = torch.rand(5), torch.randn(5, 7), torch.randn(7)
    torch.testing.assert_close((weights @ values) * target, weights @ (values * target))


def test_attention_learns_through_the_scores_alone_and_representation_never_touches_it() -> None:
    model = sized(DARE)
    history, candidates = batch([12, 12])
    tensors = model.tensors(history, candidates)
    found = model.search(tensors)
    frozen = {"kept_scores": found["kept_scores"].detach(), "kept": found["kept"]}
    model.rank(tensors | frozen)["scores"].sum().backward()
    assert all(p.grad is None for p in model.attention.parameters())
    assert any(p.grad is not None for p in model.representation.parameters())
    ours = {p.data_ptr() for p in model.attention.parameters()}
    assert not ours & {p.data_ptr() for p in model.representation.parameters()}
    model.zero_grad()
    model.loss(labelled(history, candidates)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.attention.parameters())


def test_tied_tables_make_it_twin_bit_for_bit() -> None:
    dare, twin = sized(DARE).eval(), sized(TWIN).eval()
    state = twin.state_dict()
    state |= {
        name.replace("representation", "attention"): value
        for name, value in twin.state_dict().items()
        if name.startswith("representation")
    }
    dare.load_state_dict(state)
    history, candidates = batch([12, 7, 2, 0])
    assert torch.equal(dare.score(history, candidates), twin.score(history, candidates))


def test_the_score_decomposes_into_an_item_part_and_a_vector_of_recency() -> None:
    model = sized(DARE, attention_dim=6).eval()
    history, candidates = batch([12])
    tensors = model.tensors(history, candidates)
    found = model.relevance(tensors) + tensors["bias"][:, None, :]
    tables = model.attention
    rank = recency_ranks(tensors["bias"] > -1e9)[0]
    query, key = tables(candidates)[0], tables(ItemBatch(history.items, history.attributes))[0]
    expected = torch.empty(3, 12)
    for c in range(3):
        for j in range(12):
            now, then = tables.time_embedding.weight[0], tables.time_embedding.weight[rank[j]]
            expected[c, j] = query[c] @ key[j] / math.sqrt(12) + now @ then / math.sqrt(6)
    torch.testing.assert_close(found[0, :, :12], expected, rtol=1e-5, atol=1e-6)
    together = model.attention_scores(tensors)  # the same as one product
    torch.testing.assert_close(together[0, :, :12], expected, rtol=1e-5, atol=1e-6)


def test_moving_events_together_with_their_positions_changes_nothing() -> None:
    model = sized(DARE).eval()
    tensors = model.tensors(*batch([12, 9]))
    order = torch.randperm(tensors["bias"].size(1), generator=torch.Generator().manual_seed(1))
    moved = tensors | {name: tensors[name][:, order] for name in ("key", "value", "bias", "time")}
    moved["biased_key"] = tensors["biased_key"][..., order]
    expected = model.rank(tensors | model.search(tensors))["scores"]
    torch.testing.assert_close(model.rank(moved | model.search(moved))["scores"], expected)


def test_padding_takes_no_weight_unless_the_reference_is_asked_for() -> None:
    fixed, reference = sized(DARE).eval(), sized(DARE, attend_padding=True).eval()
    reference.load_state_dict(fixed.state_dict())
    history, candidates = batch([3, 0])
    for model, expected in ((fixed, [1.0, 0.0]), (reference, [None, 1.0])):
        tensors = model.tensors(history, candidates)
        found = model.search(tensors)
        weights = model.weights(found["kept_scores"])
        real = tensors["bias"][:, None].expand(-1, 3, -1).gather(2, found["kept"]) > -1e9
        torch.testing.assert_close(weights.sum(-1)[1], torch.full((3,), expected[1]))
        if expected[0] is not None:
            torch.testing.assert_close((weights * real).sum(-1)[0], torch.ones(3))
        else:
            assert (weights * ~real).sum(-1)[0].min() > 0.05


def test_recency_counts_from_the_newest() -> None:
    valid = torch.tensor([[True, True, True, False], [False] * 4])
    assert recency_ranks(valid).tolist() == [[3, 2, 1, 4], [1, 2, 3, 4]]


def test_the_top_k_by_blocks_is_the_top_k() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 320, generator=draw)
    for k in (1, 5, 20):
        found = scores.gather(2, top_k_by_blocks(scores, k)).sort(2).values
        assert torch.equal(found, scores.gather(2, top_k(scores, k)).sort(2).values)


def test_a_long_model_searches_by_blocks_and_scores_alike() -> None:
    plain, blocks = sized(DARE).eval(), sized(DARE, max_len=1000).eval()
    blocks.load_state_dict(plain.state_dict())
    assert blocks.blocks
    history, candidates = batch([12, 4, 0])
    torch.testing.assert_close(blocks.score(history, candidates), plain.score(history, candidates))


def test_hard_search_keeps_the_category_first_and_then_the_newest() -> None:
    model = sized(SIMHard, top_k=3).eval()
    items = torch.tensor([[4, 8, 1, 5, 2, 3]])  # colours 2 2 3 3 4 5
    candidates = torch.tensor([[12, 9]])  # colours 2 and 3
    tensors = model.tensors(
        HistoryBatch(items, attributes=colours(items)), ItemBatch(candidates, colours(candidates))
    )
    kept = model.search(tensors)["kept"][0].sort(-1).values
    assert kept.tolist() == [[0, 1, 5], [2, 3, 5]]


def test_din_equals_its_network_on_the_four_parts() -> None:
    model = sized(DIN).eval()
    assert isinstance(model, DIN)
    tensors = model.tensors(*batch([12]))
    q = tensors["target"][0][:, None, :]
    k = (tensors["key"][0] * math.sqrt(8))[None]
    hidden = model.of_query(q) + model.of_key(k) + (q * k) @ model.of_product.T
    expected = model.out(model.activation(hidden))[..., 0] / 32
    torch.testing.assert_close(model.relevance(tensors)[0], expected)


def test_multi_valued_fields_are_averaged() -> None:
    tags = Column(name="tags", kind="categories", size=9, width=3)
    model = sized(DARE, columns=(tags,))
    values = torch.tensor([[3, 5, 0], [0, 0, 0]])
    found = model.representation(ItemBatch(torch.tensor([1, 2]), {"tags": values}))
    table = model.representation.tables.weight("column_0")
    torch.testing.assert_close(found[0, 4:], (table[3] + table[5]) / 2)
    assert (found[1, 4:] == 0).all()


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"fields": ("shape",)}, {"attention_dim": 0}])
def test_wrong_sizes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sized(DARE, **wrong)
