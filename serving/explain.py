"""Why an item stands where it stands: who proposed it, what carried it, which rule moved it.

Shape suffixes: K items explained, C candidates, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serving.answers import AnswerWriter, Recommendation, Recommendations
from serving.attribution import event_shares, feature_shares, input_shares
from serving.block import Block
from serving.candidates import Candidates
from serving.catalogue import Catalogue, RawId
from serving.pipeline import Pipeline
from serving.policy import Policy
from serving.ranked import Ranked
from serving.ranker import Ranker
from serving.topk import Floats, Ints

EVENTS = 10
"""Events shown of each explanation, the weightiest first."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """A source's word for an item."""

    source: str
    rank: int
    """1 is the source's best."""
    score: float


@dataclass(frozen=True, slots=True)
class EventShare:
    """What an event of the history added to the score of the source that proposed the item."""

    item_id: RawId
    title: str | None
    place: int
    """In the known events of the history; 0 is the oldest."""
    share: float


@dataclass(frozen=True, slots=True)
class Share:
    """What a named input added to a score."""

    name: str
    share: float
    value: float | None = None
    """The feature's value, where it has one."""


@dataclass(frozen=True, slots=True)
class Move:
    """A part of the policy took an item from one rank to another; 1 is the top."""

    rule: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one item of the answer. Shares of events and inputs are in the units of the score of the
    item's `source`, those of features in the units of the ranker's score.
    """

    item: Recommendation
    rank: int
    proposed: tuple[Proposed, ...]
    events: tuple[EventShare, ...]
    inputs: tuple[Share, ...]
    """What the model reads beside the items: behaviours, times, attributes."""
    features: tuple[Share, ...]
    """Of the ranker, weightiest first: against the median candidate of this request."""
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer step by step: proposals of each source, the ranked list, the arranged answer."""

    answer: Recommendations
    candidates: Mapping[str, Sequence[Recommendation]]
    """Each source's proposals, best first."""
    ranked: Sequence[Recommendation]
    """Before the policy arranged them."""
    items: tuple[Explanation, ...]
    """In the order of the answer."""


class Explainer:
    """Repeats a request and looks at its steps; the answer equals that of `recommend`."""

    def __init__(
        self,
        pipeline: Pipeline,
        catalogue: Catalogue,
        writer: AnswerWriter,
        item_table: Mapping[str, NDArray],
        feature_names: Sequence[str],
    ) -> None:
        self._pipeline, self._catalogue, self._writer = pipeline, catalogue, writer
        self._item_table, self._feature_names = item_table, tuple(feature_names)

    def explain(
        self, block: Block, policy: Policy, k: int, degraded: tuple[str, ...], unknown: int
    ) -> Explained:
        """One history's best k, explained."""
        arrangement = policy.arrangement
        width = k if arrangement is None else max(k, arrangement.window)
        candidates = self._pipeline.propose(block, policy)
        ranked = self._pipeline.rank_block(block, policy, width)
        stages: list[tuple[str, Ranked]] = [("", ranked)]
        for rule, step in arrangement.steps() if arrangement else ():
            stages.append((rule, step.arrange(ranked, block, width)))
        final = (
            stages[-1][1].cut(k) if arrangement is None else arrangement.arrange(ranked, block, k)
        )
        answer = self._writer.one(final, degraded, unknown)
        real = final.items[0] > 0
        items_K, sources_K = final.items[0][real], final.sources[0][real]
        events = self._events(block, items_K, sources_K)
        inputs = self._inputs(block, items_K, sources_K)
        features = self._features(block, candidates, items_K)
        explanations = tuple(
            Explanation(
                item,
                row + 1,
                self._proposed(candidates, int(items_K[row])),
                events[row],
                inputs[row],
                features[row],
                _moves(stages, int(items_K[row])),
            )
            for row, item in enumerate(answer.items)
        )
        return Explained(
            answer, self._by_source(candidates), self._writer.listed(ranked), explanations
        )

    def _by_source(self, candidates: Candidates) -> dict[str, Sequence[Recommendation]]:
        found = {}
        for number, name in enumerate(self._pipeline.names):
            scores_C = candidates.source_scores[name][0]
            mine = np.flatnonzero(~np.isnan(scores_C))
            order = mine[np.argsort(-scores_C[mine], kind="stable")]
            sources = np.full((1, len(order)), number, np.uint8)
            listed = Ranked(candidates.items[:, order], scores_C[order][None], sources)
            found[name] = self._writer.listed(listed)
        return found

    def _proposed(self, candidates: Candidates, item: int) -> tuple[Proposed, ...]:
        place = np.flatnonzero(candidates.items[0] == item)
        if not place.size:
            return ()
        found = []
        for name, scores_1C in candidates.source_scores.items():
            score = scores_1C[0, place[0]]
            if not np.isnan(score):
                rank = 1 + int(np.count_nonzero(scores_1C[0] > score))
                found.append(Proposed(name, rank, float(score)))
        return tuple(found)

    def _events(
        self, block: Block, items_K: Ints, sources_K: NDArray[np.uint8]
    ) -> list[tuple[EventShare, ...]]:
        found: list[tuple[EventShare, ...]] = [()] * len(items_K)
        for number in np.unique(sources_K).tolist():
            mine = np.flatnonzero(sources_K == number)
            shares_KL, first = event_shares(self._pipeline.sources[number], block, items_K[mine])
            for row, shares_L in zip(mine.tolist(), shares_KL, strict=True):
                best = np.argsort(-np.abs(shares_L), kind="stable")[:EVENTS]
                best = best[shares_L[best] != 0]
                found[row] = tuple(
                    self._event(block, first + place, float(shares_L[place]))
                    for place in best.tolist()
                )
        return found

    def _event(self, block: Block, place: int, share: float) -> EventShare:
        item = int(block.items[place])
        return EventShare(self._catalogue.raw_ids[item], self._catalogue.title(item), place, share)

    def _inputs(
        self, block: Block, items_K: Ints, sources_K: NDArray[np.uint8]
    ) -> list[tuple[Share, ...]]:
        found: list[tuple[Share, ...]] = [()] * len(items_K)
        for number in np.unique(sources_K).tolist():
            mine = np.flatnonzero(sources_K == number)
            source = self._pipeline.sources[number]
            by_name = input_shares(source, block, items_K[mine], self._item_table)
            for place, row in enumerate(mine.tolist()):
                found[row] = tuple(
                    Share(name, float(share_K[place])) for name, share_K in by_name.items()
                )
        return found

    def _features(
        self, block: Block, candidates: Candidates, items_K: Ints
    ) -> list[tuple[Share, ...]]:
        ranker = self._pipeline.ranker
        found: list[tuple[Share, ...]] = [()] * len(items_K)
        place_of = {item: place for place, item in enumerate(candidates.items[0].tolist()) if item}
        ranked = [row for row, item in enumerate(items_K.tolist()) if item in place_of]
        if not isinstance(ranker, Ranker) or not ranked or not len(block.items):
            return found
        features_CF = ranker.prepare(block, candidates)[0]
        mine_KF = features_CF[[place_of[int(items_K[row])] for row in ranked]]
        reference_F = _median(features_CF[candidates.items[0] > 0])

        def score(rows_RF: Floats) -> Floats:
            ones = np.ones((1, len(rows_RF)), np.int64)
            return ranker.score_part(rows_RF[None], ones, slice(0, len(rows_RF)))[0]

        shares_KF = feature_shares(score, mine_KF, reference_F)
        for place, row in enumerate(ranked):
            order = np.argsort(-np.abs(shares_KF[place]), kind="stable")
            found[row] = tuple(
                Share(self._feature_names[f], float(shares_KF[place, f]), float(mine_KF[place, f]))
                for f in order.tolist()
                if shares_KF[place, f]
            )
        return found


def _median(features_CF: Floats) -> Floats:
    """(F,) median of the known values, nan where none is known."""
    known = ~np.isnan(features_CF).all(axis=0)
    reference_F = np.full(features_CF.shape[1], np.nan, np.float32)
    reference_F[known] = np.nanmedian(features_CF[:, known], axis=0)
    return reference_F


def _moves(stages: Sequence[tuple[str, Ranked]], item: int) -> tuple[Move, ...]:
    """Where each rule of the policy took an item; a rule that drops one has no place here, as
    only items of the answer are explained.
    """
    ranks = []
    for rule, ranked in stages:
        place = np.flatnonzero(ranked.items[0] == item)
        if place.size:
            ranks.append((rule, int(place[0]) + 1))
    pairs = pairwise(ranks)
    return tuple(
        Move(rule, before, after) for (_, before), (rule, after) in pairs if before != after
    )
