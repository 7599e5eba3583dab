"""What is popular, with everybody or with a segment: the answer for those of whom nothing is known.

Shape suffixes: B histories, S segments, V dense item ids with padding, M entries of a list.
"""

from pathlib import Path
from typing import Self

import numpy as np

from serving.block import Block
from serving.bundle import Bundle
from serving.candidates import Proposals, most_similar
from serving.errors import BundleError
from serving.manifest import PopularitySpec
from serving.new_items import NewItems
from serving.policy import Policy
from serving.topk import NOTHING, Floats, Ints, compress

EVERYBODY = -1
"""Number of the segment that everybody is in."""


class PopularitySource:
    """The same list for everybody of a segment, less what each may not be shown."""

    def __init__(
        self, spec: PopularitySpec, scores_V: Floats, segment_scores: Floats | None = None
    ) -> None:
        self.name, self.candidates = spec.name, spec.candidates
        self._spec = spec
        self.segments = {name: number for number, name in enumerate(spec.segments)}
        self.scores_V = scores_V
        self._segment_scores = segment_scores
        self._lists = {EVERYBODY: _ordered(scores_V)}

    @classmethod
    def load(cls, bundle: Bundle, spec: PopularitySpec) -> Self:
        """Open the scores; raises BundleError unless there is a finite one for every item."""
        shape = (bundle.manifest.num_items + 1,)
        scores_V = bundle.array(spec.scores, shape, np.float32)
        of_segments = None
        if spec.segments:
            rows = (len(spec.segments), *shape)
            of_segments = bundle.array(spec.segment_scores, rows, np.float32)
        for file, values in ((spec.scores, scores_V), (spec.segment_scores, of_segments)):
            if values is not None and not np.isfinite(values[..., 1:]).all():
                raise BundleError(f"{bundle.path / file} holds values that are not finite")
        return cls(spec, scores_V, of_segments)

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        """The head of each history's list, as long as needed to have k left."""
        segments_B = block.context.segments
        if segments_B is None:
            return self._propose(EVERYBODY, block, policy, k)
        items_BK = np.zeros((len(block), k), np.int64)
        scores_BK = np.full((len(block), k), NOTHING, np.float32)
        for segment in np.unique(segments_B).tolist():
            mine = np.flatnonzero(segments_B == segment)
            found = self._propose(segment, block.of_rows(mine), policy, k)
            items_BK[mine], scores_BK[mine] = found.items, found.scores
        return Proposals(items_BK, scores_BK)

    def _propose(self, segment: int, block: Block, policy: Policy, k: int) -> Proposals:
        items, scores = self._list(segment)
        depth = policy.depth(block, k)
        while True:
            shape = (len(block), len(items[:depth]))
            items_BM = np.broadcast_to(items[:depth], shape)
            keep_BM = policy.keep(items_BM, block)
            if policy.fills(keep_BM, block, k):
                break
            depth *= 4
        scores_BM = np.broadcast_to(scores[:depth], shape)
        return Proposals(*compress((items_BM, scores_BM), (0, NOTHING), keep_BM, k))

    def _list(self, segment: int) -> tuple[Ints, Floats]:
        """Items and scores, best first; a segment's list is sorted when it is first asked for."""
        found = self._lists.get(segment)
        if found is None:
            assert self._segment_scores is not None, f"segment {segment} of a source without any"
            found = self._lists[segment] = _ordered(self._segment_scores[segment])
        return found

    def similar(self, item: int, policy: Policy, k: int) -> Proposals:
        """The most popular others."""
        scores_V = np.array(self.scores_V, np.float32)[None]
        return most_similar(scores_V, item, policy, k)

    def with_items(self, new: NewItems) -> "PopularitySource":
        """New items have no events, and come last."""
        of_segments = self._segment_scores
        if of_segments is not None:
            of_segments = np.pad(of_segments, ((0, 0), (0, len(new))))
        return PopularitySource(self._spec, np.pad(self.scores_V, (0, len(new))), of_segments)

    def write(self, directory: Path) -> None:
        """Write the scores."""
        np.save(directory / self._spec.scores, self.scores_V)
        if self._segment_scores is not None:
            np.save(directory / self._spec.segment_scores, self._segment_scores)


def _ordered(scores_V: Floats) -> tuple[Ints, Floats]:
    order = np.lexsort((np.arange(len(scores_V)), -scores_V))
    items = order[order != 0]
    return items, np.asarray(scores_V)[items]
