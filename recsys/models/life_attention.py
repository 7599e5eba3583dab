"""Attention of the life-event transformer: local softmax heads, and global heads of linear cost.

Global heads are FAVOR+ (Choromanski et al., ICLR 2021, arXiv:2009.14794, sec. 2.3): softmax is the
expectation of a product of positive random features, so the sum over the keys is taken only once.
Local heads (life2vec's choice) see their own block of positions and its two neighbours, exactly.

Departures from the published code: keys of padding are left out of the normaliser and of the
stabilising maximum, not of the sum alone, so that padding changes nothing; the maximum is that of
the whole exponent, so that no feature exceeds 1. Signs of the orthogonal blocks are corrected, so
that directions are uniform: with those that QR leaves, the error stops falling as features grow.
Exponents are formed in float32 under autocast.

Shape suffixes: B persons, H heads, L positions, d head width, M random features, N blocks,
W positions of a block, K keys that a block sees (3 W).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURE_EPSILON = 1e-4
"""Keeps a feature from vanishing."""
HIDDEN = -1e9
"""Score of a position that may not be seen."""


def orthogonal_projection(
    num_features: int, dim: int, generator: torch.Generator | None = None
) -> Tensor:
    """Random directions (M, d): orthogonal within blocks of d, as long as Gaussian ones."""
    blocks = []
    for _ in range(-(-num_features // dim)):
        q_dd, r_dd = torch.linalg.qr(torch.randn(dim, dim, generator=generator))
        blocks.append((q_dd * r_dd.diagonal().sign()).T)
    lengths_M = torch.randn(num_features, dim, generator=generator).norm(dim=1)
    return torch.cat(blocks)[:num_features] * lengths_M[:, None]


class FavorHeads(nn.Module):
    """Global attention in time and memory linear in L. Its directions are saved, not trained."""

    projection: Tensor

    def __init__(self, head_dim: int, num_features: int) -> None:
        super().__init__()
        self.register_buffer("projection", orthogonal_projection(num_features, head_dim))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw new directions, in place (life2vec: once an epoch)."""
        m, d = self.projection.shape
        drawn_Md = orthogonal_projection(m, d, generator)
        self.projection.copy_(drawn_Md.to(self.projection.device))

    def exponents(self, x_BHLd: Tensor) -> Tensor:
        """P x - |x|^2 / 2 for x scaled by d^(-1/4), (B, H, L, M) float32."""
        x_BHLd = x_BHLd.float() * x_BHLd.size(-1) ** -0.25
        return x_BHLd @ self.projection.T - x_BHLd.square().sum(-1, keepdim=True) / 2

    def forward(self, q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor, real_BL: Tensor) -> Tensor:
        """real_BL: float32, 1 where there is a token, 0 at padding."""
        with torch.autocast(q_BHLd.device.type, enabled=False):
            scale, real_B1L1 = self.projection.size(0) ** -0.5, real_BL[:, None, :, None]
            q_BHLM = self.exponents(q_BHLd)
            q_BHLM = (q_BHLM - q_BHLM.detach().amax(-1, keepdim=True)).exp() + FEATURE_EPSILON
            k_BHLM = self.exponents(k_BHLd) + (1 - real_B1L1) * HIDDEN
            k_BHLM = (k_BHLM - k_BHLM.detach().amax((-2, -1), keepdim=True)).exp()
            k_BHLM = (k_BHLM + FEATURE_EPSILON) * scale * real_B1L1
            mixed_BHLd = q_BHLM @ (k_BHLM.transpose(-1, -2) @ v_BHLd.float())
            return mixed_BHLd / (q_BHLM @ k_BHLM.sum(-2)[..., None] + torch.finfo().tiny)


class SoftmaxHeads(nn.Module):
    """Global attention, exact: quadratic in L. FAVOR+ weights need fine-tuning to serve here."""

    def __init__(self, head_dim: int, num_features: int) -> None:
        super().__init__()
        del head_dim, num_features  # there is nothing to learn

    def forward(self, q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor, real_BL: Tensor) -> Tensor:
        """real_BL: float32, 1 where there is a token, 0 at padding."""
        hidden_B11L = ((1 - real_BL) * HIDDEN)[:, None, None, :]
        return F.scaled_dot_product_attention(q_BHLd, k_BHLd, v_BHLd, attn_mask=hidden_B11L)


def with_neighbours(x_BHNWd: Tensor) -> Tensor:
    """Each block between the one before and the one after it, zeros outside: (B, H, N, K, d)."""
    around = F.pad(x_BHNWd, (0, 0, 0, 0, 1, 1))
    return torch.cat([around[:, :, :-2], around[:, :, 1:-1], around[:, :, 2:]], dim=3)


class LocalHeads(nn.Module):
    """Softmax attention within a block of `window` positions and its two neighbours."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def blocks(self, x_BHLd: Tensor) -> Tensor:
        """Padded with zeros to whole blocks, (B, H, N, W, d)."""
        w = self.window
        return F.pad(x_BHLd, (0, 0, 0, (w - x_BHLd.size(2) % w) % w)).unflatten(2, (-1, w))

    def forward(self, q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor, real_BL: Tensor) -> Tensor:
        """real_BL: float32, 1 where there is a token, 0 at padding."""
        q_BHNWd = self.blocks(q_BHLd) / math.sqrt(q_BHLd.size(-1))
        k_BHNKd, v_BHNKd, real_B1NK1 = (
            with_neighbours(self.blocks(x)) for x in (k_BHLd, v_BHLd, real_BL[:, None, :, None])
        )
        score_BHNWK = q_BHNWd @ k_BHNKd.transpose(-1, -2)
        score_BHNWK = score_BHNWK + (1 - real_B1NK1.transpose(-1, -2)) * HIDDEN
        mixed_BHLd = (score_BHNWK.softmax(-1) @ v_BHNKd).flatten(2, 3)
        return mixed_BHLd[:, :, : q_BHLd.size(2)]


class MixedAttention(nn.Module):
    """Some heads global, some local; q, k and v without bias, the output with one."""

    def __init__(
        self, dim: int, num_heads: int, num_local: int, window: int, global_heads: nn.Module
    ) -> None:
        super().__init__()
        self.num_heads, self.num_global = num_heads, num_heads - num_local
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.global_heads, self.local_heads = global_heads, LocalHeads(window)

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """real_BL: float32, 1 where there is a token, 0 at padding."""
        heads = self.query_key_value(x_BLD).unflatten(-1, (3, self.num_heads, -1))
        heads = heads.permute(2, 0, 3, 1, 4)
        far, near = heads[:, :, : self.num_global], heads[:, :, self.num_global :]
        mixed = []
        if self.num_global:
            mixed.append(self.global_heads(far[0], far[1], far[2], real_BL))
        if self.num_global < self.num_heads:
            mixed.append(self.local_heads(near[0], near[1], near[2], real_BL))
        mixed_BHLd = torch.cat([x.to(x_BLD.dtype) for x in mixed], dim=1)
        return self.out(mixed_BHLd.transpose(1, 2).flatten(2))
