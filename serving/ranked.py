"""Ranked lists in dense ids: what the pipeline answers with.

Shape suffixes: B histories, K results, M entries before a cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serving.candidates import Proposals, first_occurrences
from serving.topk import NOTHING, Floats, Ints, compress, pad_right


@dataclass(frozen=True, slots=True)
class Ranked:
    """Ranked dense ids.

    items: (B, K) 0-padded on the right. scores: (B, K), -inf for padding. sources: (B, K) number
    of the source that proposed the item first. The order is the answer: scores compare only
    within one source, or within the part that the ranker scored.
    """

    items: Ints
    scores: Floats
    sources: NDArray[np.uint8]
    alike: Ints | None = None
    """(B,) leading entries whose scores compare; None: those of the first entry's source."""
    propensities: Floats | None = None
    """(B, K) probability with which the policy put the item at its place, given those above it;
    None where nothing was explored (each is 1)."""
    marginals: Floats | None = None
    """(B, K) the same before anything was drawn; nan where that is not known."""
    degraded: tuple[str, ...] = ()
    """Steps that a deadline cut short."""

    def cut(self, k: int) -> "Ranked":
        """The first k columns, or padding up to k."""
        if self.items.shape[1] == k:
            return self
        if self.items.shape[1] > k:
            kept = {name: getattr(self, name)[:, :k] for name in ("items", "scores", "sources")}
            return replace(self, **kept)
        return replace(
            self,
            items=pad_right(self.items, k, 0),
            scores=pad_right(self.scores, k, NOTHING),
            sources=pad_right(self.sources, k, 0),
        )

    def num_alike(self) -> Ints:
        """(B,) leading entries whose scores compare."""
        if self.alike is not None:
            return self.alike
        same_BK = (self.sources == self.sources[:, :1]) & (self.items != 0)
        return np.logical_and.accumulate(same_BK, axis=1).sum(axis=1)


def of_source(found: Proposals, number: int) -> Ranked:
    """One source's list as an answer."""
    return Ranked(found.items, found.scores, np.full(found.items.shape, number, np.uint8))


def chain(parts: Sequence[Ranked], k: int) -> Ranked:
    """The lists one behind the other, each item where it comes first, cut at k."""
    items_BM = np.concatenate([part.items for part in parts], axis=1)
    scores_BM = np.concatenate([part.scores for part in parts], axis=1)
    sources_BM = np.concatenate([part.sources for part in parts], axis=1)
    keep_BM, _ = first_occurrences(items_BM)
    arrays = compress((items_BM, scores_BM, sources_BM), (0, NOTHING, 0), keep_BM, k)
    return Ranked(*arrays, alike=parts[0].alike)
