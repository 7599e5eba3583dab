"""Life-event attention: FAVOR+ against exact softmax, local heads against a dense band."""

import pytest
import torch
from torch import Tensor

from recsys.models.life_attention import (
    HIDDEN,
    FavorHeads,
    LocalHeads,
    SoftmaxHeads,
    orthogonal_projection,
)

LENGTHS = (40, 48, 80, 160, 640)
"""Tokens after padding a document of 40: the specification's own table."""


def random_heads(length: int, dim: int = 8, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, length, dim, generator=draw) * scale for _ in range(3)]


def padded(x_BHLd: Tensor, length: int, fill: float) -> Tensor:
    return torch.nn.functional.pad(x_BHLd, (0, 0, 0, length - x_BHLd.size(2)), value=fill)


@pytest.mark.parametrize("heads", [FavorHeads(8, 32), SoftmaxHeads(8, 32), LocalHeads(6)])
@pytest.mark.parametrize("length", LENGTHS)
def test_padding_changes_nothing_whatever_it_holds(heads: torch.nn.Module, length: int) -> None:
    q, k, v = random_heads(40)
    alone = heads(q, k, v, torch.ones(2, 40))
    real_BL = (torch.arange(length) < 40).float().expand(2, -1)
    more = heads(*(padded(x, length, fill=3.0) for x in (q, k, v)), real_BL)
    torch.testing.assert_close(more[:, :, :40], alone, rtol=1e-5, atol=1e-6)


def test_counting_padding_in_the_normaliser_would_be_seen() -> None:
    """The published code's fault: guard the guard above."""
    heads = FavorHeads(8, 32)
    q, k, v = random_heads(40)
    zeros = [padded(x, 80, fill=0.0) for x in (q, k, v)]
    wrong = heads(*zeros, torch.ones(2, 80))[:, :, :40]
    right = heads(*zeros, (torch.arange(80) < 40).float().expand(2, -1))[:, :, :40]
    assert (wrong - right).norm() / right.norm() > 0.04


def test_favor_approaches_exact_attention_as_its_features_grow() -> None:
    q, k, v = random_heads(30, dim=16, scale=0.4)
    real_BL = torch.ones(2, 30)
    exact = SoftmaxHeads(16, 0)(q, k, v, real_BL)

    def error(num_features: int) -> float:
        gaps = []
        for seed in range(8):
            heads = FavorHeads(16, num_features)
            heads.redraw(torch.Generator().manual_seed(seed))
            gaps.append(((heads(q, k, v, real_BL) - exact).norm() / exact.norm()).item())
        return sum(gaps) / len(gaps)

    few, many = error(64), error(1024)
    assert few / many == pytest.approx((1024 / 64) ** 0.5, rel=0.2)  # as 1 / sqrt(M)
    assert many < 0.1


def test_local_heads_equal_dense_attention_with_a_block_band() -> None:
    length, window = 23, 5
    q, k, v = random_heads(length)
    block_L = torch.arange(length) // window
    seen_LL = (block_L[:, None] - block_L).abs() <= 1
    score = q @ k.transpose(-1, -2) / q.size(-1) ** 0.5
    dense = (score + (~seen_LL) * HIDDEN).softmax(-1) @ v
    found = LocalHeads(window)(q, k, v, torch.ones(2, length))
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-6)


def test_directions_are_orthogonal_within_a_block_and_redrawn_repeatably() -> None:
    p_Md = orthogonal_projection(8, 8, torch.Generator().manual_seed(0))
    unit_Md = p_Md / p_Md.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit_Md @ unit_Md.T, torch.eye(8), rtol=0, atol=1e-5)
    heads = FavorHeads(8, 20)
    before = heads.projection.clone()
    heads.redraw(torch.Generator().manual_seed(3))
    once = heads.projection.clone()
    heads.redraw(torch.Generator().manual_seed(3))
    assert torch.equal(heads.projection, once)
    assert not torch.equal(once, before)
    assert "projection" in heads.state_dict(), "it must travel with the weights"
