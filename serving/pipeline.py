"""Histories in dense ids -> ranked items: sources, filters, ranker, cut.

The one inner path: single requests, frames, batch jobs and evaluation all go through it.
Shape suffixes: B histories, C candidates, K results.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from serving.candidates import Candidates, Proposals, first_occurrences, unite
from serving.policy import Block, Policy
from serving.ranker import Ranker
from serving.sources import Source
from serving.topk import NOTHING, Floats, Ints, compress, pad_right

BLOCK_ROWS = 256
"""Histories answered together, at most."""
BLOCK_CELLS = 1 << 21
"""History x item pairs held at once: 8 MiB of scores and a few times that for sorting."""


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


class Pipeline:
    """Sources in order of priority and an optional ranker. Immutable, safe to share.

    Without a ranker the first source answers and the next ones fill up. With one, the union of
    the sources' candidates is ranked; beyond it follows the order without a ranker.
    """

    def __init__(
        self, sources: Sequence[Source], ranker: Ranker | None, num_items: int, threads: int
    ) -> None:
        self.sources, self.ranker = tuple(sources), ranker
        self.num_items, self.threads = num_items, threads
        self.names = tuple(source.name for source in sources)

    def rank(self, histories: Histories, at_B: Ints, policy: Policy, k: int) -> Ranked:
        """The best k of each history; a batch gives the answers of its rows asked alone."""
        if len(histories) == 1:
            return self._rank(Block.of(histories, at_B, self.num_items), policy, k)
        shape = (len(histories), k)
        items, scores = np.zeros(shape, np.int64), np.full(shape, NOTHING, np.float32)
        sources = np.zeros(shape, np.uint8)

        def answer(rows: Ints, block: Block) -> None:
            found = self._rank(block, policy, k)
            items[rows], scores[rows], sources[rows] = found.items, found.scores, found.sources

        self._each_block(histories, at_B, max(self.num_items, k), answer)
        return Ranked(items, scores, sources)

    def candidates(self, histories: Histories, at_B: Ints, policy: Policy) -> Candidates:
        """What the ranker chooses from: the union of all sources' candidates, filtered."""
        width = min(sum(source.candidates for source in self.sources), self.num_items)
        shape = (len(histories), width)
        items, scores = np.zeros(shape, np.int64), np.full(shape, NOTHING, np.float32)
        sources = np.zeros(shape, np.uint8)
        by_source = {name: np.full(shape, np.nan, np.float32) for name in self.names}

        def answer(rows: Ints, block: Block) -> None:
            found = self._candidates(block, policy)
            filled = slice(0, found.items.shape[1])
            items[rows, filled], scores[rows, filled] = found.items, found.scores
            sources[rows, filled] = found.sources
            for name, values in found.source_scores.items():
                by_source[name][rows, filled] = values

        self._each_block(histories, at_B, self.num_items, answer)
        return Candidates(items, sources, scores, by_source)

    def _each_block(
        self,
        histories: Histories,
        at_B: Ints,
        width: int,
        answer: Callable[[Ints, Block], None],
    ) -> None:
        """Call `answer` for blocks of histories of like length, so that little is padding."""
        size = max(min(BLOCK_CELLS // (width + 1), BLOCK_ROWS), 1)
        order = np.argsort(histories.lengths, kind="stable")
        parts = [order[start : start + size] for start in range(0, len(order), size)]

        def run(rows: Ints) -> None:
            answer(rows, Block.of(histories.take(rows), at_B[rows], self.num_items))

        if self.threads == 1 or len(parts) == 1:
            for rows in parts:
                run(rows)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(run, parts):
                pass  # raises here what a block raised

    def _rank(self, block: Block, policy: Policy, k: int) -> Ranked:
        if self.ranker is None:
            return self._retrieve(block, policy, k)
        candidates = self._candidates(block, policy)
        if not candidates.items.size:
            return self._retrieve(block, policy, k)
        scores_BC = self.ranker.score(block, candidates)
        # a history without events keeps the order of popularity: the ranker never saw such
        silent_B = block.histories.ends == block.histories.starts
        scores_BC[silent_B] = candidates.scores[silent_B]
        # equal scores, which a small ranker gives often, keep the order of retrieval
        order_BC = np.argsort(-scores_BC, axis=1, kind="stable")[:, :k]
        ranked = Ranked(
            np.take_along_axis(candidates.items, order_BC, axis=1),
            np.take_along_axis(scores_BC, order_BC, axis=1),
            np.take_along_axis(candidates.sources, order_BC, axis=1),
        )
        ranked.items[ranked.scores == NOTHING] = 0
        if _complete(ranked, block, policy, k):
            return _widen(ranked, k)
        return _chain([ranked, self._retrieve(block, policy, k)], k)

    def _candidates(self, block: Block, policy: Policy) -> Candidates:
        found = [source.propose(block, policy, source.candidates) for source in self.sources]
        return unite(self.names, found)

    def _retrieve(self, block: Block, policy: Policy, k: int) -> Ranked:
        """The order without a ranker: each source fills what those before it left empty."""
        found = _of_source(self.sources[0].propose(block, policy, k), 0)
        for number, source in enumerate(self.sources[1:], 1):
            if _complete(found, block, policy, k):
                break
            more = _of_source(source.propose(block, policy, k), number)
            found = _chain([found, more], k)
        return found


def _complete(ranked: Ranked, block: Block, policy: Policy, k: int) -> bool:
    """Whether every list has k items or all that are permitted."""
    if ranked.items.shape[1] == k and ranked.items[:, -1].all():
        return True
    enough_B = np.minimum(policy.num_permitted(block), k)
    return bool(((ranked.items != 0).sum(axis=1) >= enough_B).all())


def _of_source(found: Proposals, number: int) -> Ranked:
    return Ranked(found.items, found.scores, np.full(found.items.shape, number, np.uint8))


def _widen(ranked: Ranked, k: int) -> Ranked:
    return Ranked(
        pad_right(ranked.items, k, 0),
        pad_right(ranked.scores, k, NOTHING),
        pad_right(ranked.sources, k, 0),
    )


def _chain(parts: Sequence[Ranked], k: int) -> Ranked:
    """The lists one behind the other, each item where it comes first, cut at k."""
    items_BM = np.concatenate([part.items for part in parts], axis=1)
    scores_BM = np.concatenate([part.scores for part in parts], axis=1)
    sources_BM = np.concatenate([part.sources for part in parts], axis=1)
    keep_BM, _ = first_occurrences(items_BM)
    return Ranked(*compress((items_BM, scores_BM, sources_BM), (0, NOTHING, 0), keep_BM, k))
