"""Recommendations from a bundle: histories in, ranked items out.

    request -> history -> candidates of the sources, filtered -> ranker -> cut

`rank` is the one inner path: single requests, frames, batch jobs and evaluation all go through it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.layout import ITEMS, DatasetSchema
from features.store import read_table, to_arrays
from serving.bundle import Bundle, open_bundle
from serving.candidates import Candidates
from serving.catalogue import Catalogue, RawId
from serving.errors import BundleError, RequestError
from serving.pipeline import Pipeline, Ranked
from serving.policy import Policy
from serving.ranker import Ranker
from serving.requests import History, Moment, RequestReader
from serving.sources import load_source
from serving.topk import Floats, Ints

__all__ = ["Ranked", "Recommendation", "Recommendations", "Recommender"]


class Recommendation(NamedTuple):
    """One item of an answer."""

    item_id: RawId
    score: float
    """Higher is better; compares only with scores of the same answer and source."""
    source: str
    """The first source that proposed it."""
    title: str | None
    columns: Mapping[str, Any]
    """What the catalogue declares of the item."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """An answer, and how it came about."""

    items: tuple[Recommendation, ...]
    bundle_version: str
    degraded: tuple[str, ...] = ()
    """Why it is not personal: `no_history`, `unknown_items` (none of them is known), or
    `no_candidates` (no source had an opinion); empty for a full answer."""
    unknown: int = 0
    """Events of the history whose item the bundle does not know."""


class Recommender:
    """Answers from one bundle. Ready once constructed, immutable, safe to share between threads.

    `Recommender.load(path)` is the way in. To update, load the new bundle and replace the
    reference: a bundle that does not load leaves the old one serving.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """From files that are known to be whole; everyone but the export uses `load`."""
        directory, manifest = bundle.path, bundle.manifest
        try:
            schema = DatasetSchema.read(directory)
            item_table = to_arrays(read_table(directory / ITEMS))
            catalogue = Catalogue.load(directory, schema)
        except InputError as error:
            raise BundleError(str(error)) from error
        if schema.num_items != manifest.num_items:
            raise BundleError(
                f"{directory} has {schema.num_items} items in its schema and "
                f"{manifest.num_items} in its manifest: export it again"
            )
        columns = schema.item_columns
        ranker = manifest.ranker and Ranker.load(bundle, manifest.ranker, item_table, columns)
        sources = [load_source(bundle, spec, item_table) for spec in manifest.sources]
        codes = {name: code for code, name in enumerate(schema.event_types, 1)}
        default = next((codes[name] for name in schema.target_events), 1)
        self.manifest, self.schema, self.item_table = manifest, schema, item_table
        self.bundle_version, self.bundle_sha256 = bundle.version, bundle.sha256
        self.num_items = schema.num_items
        self._catalogue = catalogue
        self.reader = RequestReader(catalogue, codes, default, schema.cutoff)
        self._pipeline = Pipeline(sources, ranker, self.num_items, threads)
        self._policy = Policy(manifest.policy.exclude_seen)

    @classmethod
    def load(cls, path: Path, *, threads: int = 1) -> Self:
        """Verify and open a bundle; raises BundleError and never half succeeds.

        threads: for answers to many histories at once; a single request always takes one.
        """
        return cls(open_bundle(path), threads=threads)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Sources in order of priority."""
        return self._pipeline.names

    @property
    def pipeline(self) -> Pipeline:
        """The inner path, for measurements."""
        return self._pipeline

    def title(self, raw_item_id: RawId) -> str | None:
        """What to call an item; None for one without a title or unknown to the bundle."""
        item = self._catalogue.dense.get(raw_item_id)
        return None if item is None else self._catalogue.show(item).title

    def parse_item_id(self, text: str) -> RawId:
        """A raw item id typed by a person; raises RequestError where it cannot be one."""
        return self._catalogue.parse(text)

    def recommend(
        self,
        history: History,
        *,
        k: int = 10,
        at: Moment | None = None,
        exclude_seen: bool | None = None,
        allow: Iterable[RawId] | None = None,
        deny: Iterable[RawId] | None = None,
    ) -> Recommendations:
        """The best k items after a history, oldest event first. Raises RequestError.

        at: moment of the request, by default that of the last event (never the clock, so that
        the same request has the same answer). exclude_seen: by default the bundle's policy.
        allow, deny: raw ids to choose from, and to leave out; unknown ones are ignored.
        """
        request = self.reader.read(history, at)
        policy = self._policy_of(exclude_seen=exclude_seen, allow=allow, deny=deny)
        width = self._width(k)
        found = self._pipeline.rank(request.histories, request.at, policy, width)
        degraded = self._degraded(len(request.histories.items), request.unknown, found)
        return self._answer(
            found.items[0], found.scores[0], found.sources[0], degraded, request.unknown
        )

    def recommend_many(self, frame: pl.DataFrame, *, k: int = 10) -> pl.DataFrame:
        """The best k items of every user of a frame of events.

        frame: `user_id`, `item_id`, optionally `timestamp` and `event`; within a user oldest
        first. Returns `user_id, rank, item_id, score, source`, users in order of first appearance.
        """
        request = self.reader.read_frame(frame)
        ranked = self.rank(request.histories, k=self._width(k), at=request.at)
        return self.as_frame(request.users, ranked)

    def similar_items(self, raw_item_id: RawId, *, k: int = 10) -> Recommendations:
        """The k items most like one, by the first source (a model: cosine of item vectors)."""
        item = self._catalogue.find(raw_item_id)
        found = self._pipeline.sources[0].similar(item, self._policy, self._width(k))
        sources = np.zeros(found.items.shape[1], np.uint8)
        return self._answer(found.items[0], found.scores[0], sources, (), 0)

    def rank(
        self, histories: Histories, *, k: int, at: Ints, policy: Policy | None = None
    ) -> Ranked:
        """The best k of each history, in dense ids; k = num_items gives a complete ordering.

        at: (B,) int64 microseconds. policy: by default the bundle's.
        """
        return self._pipeline.rank(histories, at, policy or self._policy, k)

    def candidates(self, histories: Histories, *, at: Ints) -> Candidates:
        """What the ranker chooses from: the union of the sources' candidates, filtered."""
        return self._pipeline.candidates(histories, at, self._policy)

    def as_frame(self, users: pl.Series, ranked: Ranked) -> pl.DataFrame:
        """Ranked lists as rows `user_id, rank, item_id, score, source`."""
        rows, columns = np.nonzero(ranked.items)
        raw_ids = pl.Series(self._catalogue.raw_ids)
        names = pl.Series(self.source_names, dtype=pl.String)
        return pl.DataFrame(
            {
                "user_id": users.gather(rows),
                "rank": pl.Series(columns + 1, dtype=pl.Int32),
                "item_id": raw_ids.gather(ranked.items[rows, columns]),
                "score": pl.Series(ranked.scores[rows, columns], dtype=pl.Float32),
                "source": names.gather(ranked.sources[rows, columns]),
            }
        )

    def check_golden(self) -> None:
        """Repeat the requests stored at export; raises BundleError for another answer.

        Items may swap places where their scores agree within 1e-3 of the greatest: another
        processor rounds differently.
        """
        for number, golden in enumerate(self.manifest.golden):
            histories = Histories.of([golden.items], [golden.timestamps], [golden.events])
            found = self.rank(histories, k=len(golden.expected), at=np.array([golden.at]))
            expected = np.array(golden.scores, np.float32)
            tolerance = 1e-3 * max(float(np.abs(expected).max(initial=0)), 1.0)
            same = np.abs(found.scores[0] - expected) <= tolerance
            if not same.all() or not set(golden.expected[:1]) <= set(found.items[0].tolist()):
                raise BundleError(
                    f"stored request {number} is answered {found.items[0, :5].tolist()}, "
                    f"expected {list(golden.expected[:5])}: do not serve this bundle here"
                )

    def _policy_of(
        self,
        *,
        exclude_seen: bool | None,
        allow: Iterable[RawId] | None,
        deny: Iterable[RawId] | None,
    ) -> Policy:
        if exclude_seen is None and allow is None and deny is None:
            return self._policy
        seen = self._policy.exclude_seen if exclude_seen is None else exclude_seen
        find = self._catalogue.find_all
        return Policy.of(
            self.num_items,
            exclude_seen=seen,
            allow=None if allow is None else find(allow),
            deny=None if deny is None else find(deny),
        )

    def _width(self, k: int) -> int:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise RequestError(f"k={k!r} must be an integer of at least 1")
        return min(k, self.num_items)

    def _degraded(self, known: int, unknown: int, found: Ranked) -> tuple[str, ...]:
        if not known:
            return ("unknown_items",) if unknown else ("no_history",)
        personal = found.sources[0, 0] < len(self.source_names) - 1 or len(self.source_names) == 1
        return () if personal else ("no_candidates",)

    def _answer(
        self,
        items: Ints,
        scores: Floats,
        sources: NDArray[np.uint8],
        degraded: tuple[str, ...],
        unknown: int,
    ) -> Recommendations:
        show, names = self._catalogue.show, self.source_names
        columns = (items.tolist(), scores.tolist(), sources.tolist())
        answer = []
        for item, score, source in zip(*columns, strict=True):
            if item:
                raw, title, row = show(item)
                answer.append(Recommendation(raw, score, names[source], title, row))
        return Recommendations(tuple(answer), self.bundle_version, degraded, unknown)
