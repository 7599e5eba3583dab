"""Histories in dense ids -> ranked items: sources, filters, ranker, policy, cut.

The one inner path: single requests, frames, batch jobs and evaluation all go through it.
Shape suffixes: B histories, C candidates, K results.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from features.encode import Histories
from serving.block import NO_CONTEXT, Block, Context
from serving.candidates import Candidates, Proposals, unite
from serving.deadline import Costs, Deadline
from serving.errors import StateError
from serving.model_source import ModelSource
from serving.neural import NeuralRanker
from serving.policy import Policy
from serving.ranked import Ranked, chain, of_source
from serving.ranker import SecondStage
from serving.sources import Source
from serving.topk import NOTHING, Floats, Ints, chosen, top_k

BLOCK_ROWS = 256
"""Histories answered together, at most."""
BLOCK_CELLS = 1 << 21
"""History x item pairs held at once: 8 MiB of scores and a few times that for sorting."""
RANK_CHUNK = 128
"""Candidates ranked between two looks at the clock, where there is little time."""
PLENTY = 8
"""Times the usual duration of ranking all candidates: with so much left they are ranked at once."""


class Pipeline:
    """Sources in order of priority and an optional ranker. Immutable, safe to share.

    Without a ranker the first source answers and the next ones fill up. With one, the union of
    the sources' candidates is ranked; beyond it follows the order without a ranker. The last
    source must be the one that has an answer for everybody, at next to no cost.
    """

    def __init__(
        self, sources: Sequence[Source], ranker: SecondStage | None, num_items: int, threads: int
    ) -> None:
        self.sources, self.ranker = tuple(sources), ranker
        self.num_items, self.threads = num_items, threads
        self.names = tuple(source.name for source in sources)
        dense = any(isinstance(one, ModelSource) and one.index.dense for one in sources)
        self._cells = num_items if dense else sum(one.candidates for one in sources)
        """Scores held at once for a history."""
        self.costs = Costs()

    def rank(
        self,
        histories: Histories,
        at_B: Ints,
        policy: Policy,
        k: int,
        context: Context = NO_CONTEXT,
        deadline: Deadline | None = None,
    ) -> Ranked:
        """The best k of each history; a batch gives the answers of its rows asked alone.

        deadline: of a single history; what it cuts short is named in `degraded`.
        """
        if len(histories) == 1:
            block = Block.of(histories, at_B, self.num_items, context)
            return self.answer(block, policy, k, deadline)
        shape = (len(histories), k)
        items, scores = np.zeros(shape, np.int64), np.full(shape, NOTHING, np.float32)
        sources = np.zeros(shape, np.uint8)
        propensities, marginals = np.ones(shape, np.float32), np.ones(shape, np.float32)
        explores = policy.arrangement is not None and policy.arrangement.exploration is not None

        def answer(rows: Ints, block: Block) -> None:
            found = self.answer(block, policy, k)
            refuse_degraded(found.degraded)
            items[rows], scores[rows], sources[rows] = found.items, found.scores, found.sources
            if found.propensities is not None and found.marginals is not None:
                propensities[rows], marginals[rows] = found.propensities, found.marginals

        self._each_block(histories, at_B, max(self._cells, k), answer, context)
        if not explores:
            return Ranked(items, scores, sources)
        return Ranked(items, scores, sources, propensities=propensities, marginals=marginals)

    def candidates(
        self, histories: Histories, at_B: Ints, policy: Policy, context: Context = NO_CONTEXT
    ) -> Candidates:
        """What the ranker chooses from: the union of all sources' candidates, filtered."""
        width = min(sum(source.candidates for source in self.sources), self.num_items)
        shape = (len(histories), width)
        items, scores = np.zeros(shape, np.int64), np.full(shape, NOTHING, np.float32)
        sources = np.zeros(shape, np.uint8)
        by_source = {name: np.full(shape, np.nan, np.float32) for name in self.names}

        def answer(rows: Ints, block: Block) -> None:
            found = self.propose(block, policy)
            refuse_degraded(found.skipped)
            filled = slice(0, found.items.shape[1])
            items[rows, filled], scores[rows, filled] = found.items, found.scores
            sources[rows, filled] = found.sources
            for name, values in found.source_scores.items():
                by_source[name][rows, filled] = values

        self._each_block(histories, at_B, self._cells, answer, context)
        return Candidates(items, sources, scores, by_source)

    def _each_block(
        self,
        histories: Histories,
        at_B: Ints,
        width: int,
        answer: Callable[[Ints, Block], None],
        context: Context,
    ) -> None:
        """Call `answer` for blocks of histories of like length, so that little is padding."""
        size = max(min(BLOCK_CELLS // (width + 1), BLOCK_ROWS), 1)
        order = np.argsort(histories.lengths, kind="stable")
        parts = [order[start : start + size] for start in range(0, len(order), size)]

        def run(rows: Ints) -> None:
            mine = context.take(rows)
            answer(rows, Block.of(histories.take(rows), at_B[rows], self.num_items, mine))

        if self.threads == 1 or len(parts) == 1:
            for rows in parts:
                run(rows)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(run, parts):
                pass  # raises here what a block raised

    def answer(
        self, block: Block, policy: Policy, k: int, deadline: Deadline | None = None
    ) -> Ranked:
        """The best k of each history of a block."""
        if policy.arrangement is None:
            return self.rank_block(block, policy, k, deadline)
        ranked = self.rank_block(block, policy, max(k, policy.arrangement.window), deadline)
        return policy.arrangement.arrange(ranked, block, k)

    def rank_block(
        self, block: Block, policy: Policy, k: int, deadline: Deadline | None = None
    ) -> Ranked:
        """The best k before the policy arranges them."""
        if self.ranker is None:
            return self._retrieve(block, policy, k, deadline)
        candidates = self.propose(block, policy, deadline)
        if not candidates.items.size:
            return self._retrieve(block, policy, k, deadline)
        ranker = self.ranker
        if policy.formula is not None and isinstance(ranker, NeuralRanker):
            ranker = ranker.combined_by(policy.formula)
        scores_BC, num_scored = self._score(ranker, block, candidates, deadline)
        # a history without events keeps the order of popularity: the ranker never saw such
        silent_B = block.histories.ends == block.histories.starts
        if silent_B.any():
            scores_BC[silent_B] = candidates.scores[silent_B]
        # equal scores, which a small ranker gives often, keep the order of retrieval
        order_BC, best_BC = top_k(scores_BC[:, :num_scored], min(num_scored, k))
        if num_scored < min(scores_BC.shape[1], k):
            rest = np.arange(num_scored, min(scores_BC.shape[1], k))
            order_BC = np.concatenate([order_BC, np.tile(rest, (len(block), 1))], axis=1)
            best_BC = np.concatenate([best_BC, scores_BC[:, rest]], axis=1)
        ranked = Ranked(
            chosen(candidates.items, order_BC),
            best_BC,
            chosen(candidates.sources, order_BC),
            degraded=_cut_short(candidates, num_scored),
        )
        ranked.items[ranked.scores == NOTHING] = 0
        if policy.arrangement is not None:
            scored = (ranked.items[:, :num_scored] != 0).sum(axis=1)
            ranked = replace(ranked, alike=np.minimum(scored, k))
        if ranked.degraded or _complete(ranked, block, policy, k):
            return ranked.cut(k)
        return chain([ranked, self._retrieve(block, policy, k)], k)

    def _score(
        self, ranker: SecondStage, block: Block, candidates: Candidates, deadline: Deadline | None
    ) -> tuple[Floats, int]:
        """(B, C) scores, and how many columns the time sufficed to rank; the others keep the
        scores of their sources.
        """
        if deadline is None:
            return ranker.score(block, candidates), candidates.items.shape[1]
        scores_BC = candidates.scores.copy()
        width = scores_BC.shape[1]
        if not self.costs.fits("features", deadline, amount=width):
            return scores_BC, 0
        started = time.monotonic_ns()
        prepared = ranker.prepare(block, candidates)
        self.costs.learn("features", started, amount=width)
        hurried = not self.costs.fits("ranking", deadline, amount=PLENTY * width)
        step = RANK_CHUNK if hurried or "ranking" not in self.costs.usual else width
        for start in range(0, width, step):
            part = slice(start, min(start + step, width))
            size = part.stop - part.start
            if not self.costs.fits("ranking", deadline, amount=size):
                return scores_BC, start
            started = time.monotonic_ns()
            scores_BC[:, part] = ranker.score_part(prepared, candidates.items, part)
            self.costs.learn("ranking", started, amount=size)
        return scores_BC, width

    def propose(self, block: Block, policy: Policy, deadline: Deadline | None = None) -> Candidates:
        """The union of what the sources propose; those that time does not suffice for, or that are
        lost, propose nothing. Raises StateError where the last is lost.
        """
        return unite(
            self.names,
            [self._ask(one, block, policy, one.candidates, deadline) for one in self.sources],
        )

    def _ask(
        self, source: Source, block: Block, policy: Policy, k: int, deadline: Deadline | None
    ) -> Proposals | None:
        """What a source proposes; None for one that is lost or that there is no time for."""
        last = source is self.sources[-1]
        if not (last or deadline is None or self.costs.fits(source.name, deadline)):
            return None
        started = time.monotonic_ns()
        try:
            found = source.propose(block, policy, k)
        except StateError:
            if last:
                raise
            return None
        if deadline is not None:
            self.costs.learn(source.name, started)
        return found

    def _retrieve(
        self, block: Block, policy: Policy, k: int, deadline: Deadline | None = None
    ) -> Ranked:
        """The order without a ranker: each source fills what those before it left empty."""
        found: Ranked | None = None
        skipped = []
        for number, source in enumerate(self.sources):
            if found is not None and _complete(found, block, policy, k):
                break
            proposed = self._ask(source, block, policy, k, deadline)
            if proposed is None:
                skipped.append(f"skipped:{source.name}")
                continue
            more = of_source(proposed, number)
            found = more if found is None else chain([found, more], k)
        assert found is not None
        return replace(found, degraded=tuple(skipped)) if skipped else found


def refuse_degraded(reasons: Sequence[str]) -> None:
    """Frames, batch jobs and evaluation get whole answers or none: nobody reads their margins."""
    if reasons:
        raise StateError(f"a batch lacks a source ({', '.join(reasons)}): try again later")


def _complete(ranked: Ranked, block: Block, policy: Policy, k: int) -> bool:
    """Whether every list has k items or all that are permitted."""
    if ranked.items.shape[1] == k and ranked.items[:, -1].all():
        return True
    enough_B = np.minimum(policy.num_permitted(block), k)
    return bool(((ranked.items != 0).sum(axis=1) >= enough_B).all())


def _cut_short(candidates: Candidates, num_scored: int) -> tuple[str, ...]:
    """What the deadline left undone, in words."""
    width = candidates.items.shape[1]
    skipped = tuple(f"skipped:{name}" for name in candidates.skipped)
    if num_scored == width:
        return skipped
    return (*skipped, "partly_ranked" if num_scored else "not_ranked")
