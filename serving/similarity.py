"""How alike items are, for diversity: by their vectors or by shared values. Both are positive
semi-definite with 1 on the diagonal, so that a determinant of them is a volume.

Shape suffixes: B lists, N items of the window, V dense item ids, D width, W values of an item.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.topk import Floats, Ints


class Similarity(Protocol):
    """Compares the items of a window."""

    def gather(self, items_BN: Ints) -> NDArray:
        """What is compared of each item of the windows, (B, N, ...)."""
        ...

    def to(self, gathered_BN: NDArray, picks_B: Ints) -> Floats:
        """(B, N) similarity, 0 to 1, of each item to the one at place `picks` of its row."""
        ...


class VectorSimilarity:
    """(1 + cosine) / 2 of the item vectors; an item without a vector is half like any other."""

    def __init__(self, vectors_VD: NDArray[np.float16]) -> None:
        self._vectors_VD = vectors_VD

    def gather(self, items_BN: Ints) -> NDArray:
        """Unit vectors, (B, N, D)."""
        vectors_BND = self._vectors_VD[items_BN].astype(np.float32)
        norms_BN = np.sqrt(np.einsum("bnd,bnd->bn", vectors_BND, vectors_BND))
        return vectors_BND / np.maximum(norms_BN, 1e-12)[:, :, None]

    def to(self, gathered_BN: NDArray, picks_B: Ints) -> Floats:
        """By the cosine."""
        picked_BD = gathered_BN[np.arange(len(picks_B)), picks_B]
        cosine_BN = np.einsum("bnd,bd->bn", gathered_BN, picked_BD)
        return (1 + np.clip(cosine_BN, -1, 1)) / 2


class ValueSimilarity:
    """Shared values over the geometric mean of their numbers; 0 for items of unknown values."""

    def __init__(self, values_VW: Ints) -> None:
        self._values_VW = values_VW

    def gather(self, items_BN: Ints) -> NDArray:
        """Value ids, (B, N, W), 0 where there is none."""
        return self._values_VW[items_BN]

    def to(self, gathered_BN: NDArray, picks_B: Ints) -> Floats:
        """By the values in common."""
        picked_BW = gathered_BN[np.arange(len(picks_B)), picks_B]
        known_BN = (gathered_BN > 0).sum(axis=2)
        equal_BNWW = gathered_BN[:, :, :, None] == picked_BW[:, None, None, :]
        shared_BN = (equal_BNWW & (gathered_BN > 0)[..., None]).sum(axis=(2, 3))
        own_B1 = (picked_BW > 0).sum(axis=1)[:, None]
        return (shared_BN / np.sqrt(np.maximum(known_BN * own_B1, 1))).astype(np.float32)
