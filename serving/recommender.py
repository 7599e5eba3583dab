"""Recommendations from a bundle: histories in, ranked items out.

    request -> history -> candidates of the sources, filtered -> ranker -> policy -> cut

`rank` is the one inner path: single requests, frames, batch jobs and evaluation all go through it.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import polars as pl

from features.encode import Histories
from serving.answers import AnswerWriter, Recommendation, Recommendations
from serving.block import NO_CONTEXT, Block, Context
from serving.bundle import MIN_RECALL, open_bundle, refuse_blind_index
from serving.candidates import Candidates
from serving.catalogue import RawId
from serving.compile_policy import PolicyCompiler
from serving.errors import BundleError, RequestError
from serving.explain import Explained, Explainer
from serving.golden import refuse_other_answers
from serving.index import RemoteIndexes
from serving.manifest import TreeRankerSpec
from serving.neural import NeuralRanker
from serving.new_items import ItemRows
from serving.next_categories import Likely, likeliest
from serving.options import NO_OPTIONS, ContextReader, Options
from serving.parts import Parts
from serving.pipeline import Pipeline, refuse_degraded
from serving.policy import Policy
from serving.ranked import Ranked, of_source
from serving.requests import History, Moment, RequestReader, microseconds
from serving.topk import Ints

__all__ = ["Ranked", "Recommendation", "Recommendations", "Recommender"]


class Recommender:
    """Answers from one bundle. Ready once constructed, immutable, safe to share between threads.

    `Recommender.load(path)` is the way in. To update, load the new bundle and replace the
    reference: a bundle that does not load leaves the old one serving.
    """

    def __init__(self, parts: Parts, *, threads: int = 1) -> None:
        """From parts that are known to be whole; everyone but the export uses `load`."""
        schema, catalogue, sources = parts.schema, parts.catalogue, parts.sources
        codes = {name: code for code, name in enumerate(schema.event_types, 1)}
        default = next((codes[name] for name in schema.target_events), 1)
        self.manifest, self.schema, self.item_table = parts.manifest, schema, parts.item_table
        self.bundle_version, self.bundle_sha256 = parts.version, parts.sha256
        self.num_items = schema.num_items
        self._parts, self._catalogue = parts, catalogue
        self.reader = RequestReader(catalogue, codes, default, schema)
        self._pipeline = Pipeline(sources, parts.ranker, self.num_items, threads)
        self._writer = AnswerWriter(catalogue, self.source_names, parts.version)
        self._context = ContextReader(catalogue, sources)
        neural = parts.ranker if isinstance(parts.ranker, NeuralRanker) else None
        tasks = neural.spec.tasks if neural else ()
        self._compiler = PolicyCompiler(
            parts.path, schema, catalogue, parts.item_table, sources, tasks
        )
        try:
            self.policy = self._compiler.compile(parts.manifest.policy)
        except RequestError as error:
            raise BundleError(f"the policy of {parts.path} does not fit it: {error}") from error

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        threads: int = 1,
        batches: bool = False,
        min_recall: float = MIN_RECALL,
        indexes: RemoteIndexes | None = None,
    ) -> Self:
        """Verify and open a bundle; raises BundleError and never half succeeds.

        threads: for answers to many histories at once; a single request always takes one.
        batches: search large catalogues exactly, which is quicker for many histories at once and
        slow for one. min_recall: least recall of the index that the export may have measured.
        indexes: search item vectors there (`serving.remote_index`) and not in this process; also
        raises StateError then.
        """
        bundle = open_bundle(path)
        refuse_blind_index(bundle, min_recall)
        return cls(Parts.load(bundle, batches=batches, indexes=indexes), threads=threads)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Sources in order of priority."""
        return self._pipeline.names

    @property
    def raw_item_ids(self) -> pl.Series:
        """(N + 1,) raw id of each dense id; element 0 stands for no item."""
        return self._catalogue.raw_series

    @property
    def pipeline(self) -> Pipeline:
        """The inner path, for measurements."""
        return self._pipeline

    def title(self, raw_item_id: RawId) -> str | None:
        """What to call an item; None for one without a title or unknown to the bundle."""
        item = self._catalogue.dense.get(raw_item_id)
        return None if item is None else self._catalogue.title(item)

    def titles(self) -> list[str | None]:
        """Of every item, in the order of `raw_item_ids[1:]`; None for one without."""
        return self._catalogue.titles()

    def knows(self, raw_item_id: RawId) -> bool:
        """Whether the item is in the bundle."""
        return raw_item_id in self._catalogue.dense

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
        options: Options = NO_OPTIONS,
    ) -> Recommendations:
        """The best k items after a history, oldest event first.

        at: moment of the request, by default that of the last event (never the clock, so that
        the same request has the same answer). exclude_seen: by default the policy's. allow,
        deny: raw ids to choose from, and to leave out, beside the policy's; unknown ones are
        ignored. options: another policy, segment, request id, exposures, deadline.
        Raises RequestError, and DeadlineExceeded where the deadline has passed already.
        """
        if options.deadline is not None:
            options.deadline.refuse_passed()
        request = self.reader.read(history, at)
        policy = self.policy_of(options, exclude_seen=exclude_seen, allow=allow, deny=deny)
        found = self._pipeline.rank(
            request.histories,
            request.at,
            policy,
            self._width(k),
            self._context.read(options),
            options.deadline,
        )
        degraded = self._degraded(len(request.histories.items), request.unknown, found)
        return self._writer.one(found, degraded, request.unknown)

    def explain(
        self,
        history: History,
        *,
        k: int = 10,
        at: Moment | None = None,
        options: Options = NO_OPTIONS,
    ) -> Explained:
        """What `recommend` answers, and why: proposals, shares, moves. Costs some ten requests;
        a deadline is ignored. Raises RequestError.
        """
        request = self.reader.read(history, at)
        policy, width = self.policy_of(options), self._width(k)
        context = self._context.read(options)
        found = self._pipeline.rank(request.histories, request.at, policy, width, context)
        degraded = self._degraded(len(request.histories.items), request.unknown, found)
        block = Block.of(request.histories, request.at, self.num_items, context)
        return self.explainer().explain(block, policy, width, degraded, request.unknown)

    def explainer(self) -> Explainer:
        """What explains the answers to histories in dense ids."""
        spec = self.manifest.ranker
        names = spec.features if isinstance(spec, TreeRankerSpec) else ()
        return Explainer(self._pipeline, self._catalogue, self._writer, self.item_table, names)

    def recommend_many(self, frame: pl.DataFrame, *, k: int = 10) -> pl.DataFrame:
        """The best k items of every user of a frame of events.

        frame: `user_id`, `item_id`, optionally `timestamp` and `event`; within a user oldest
        first. Returns `user_id, rank, item_id, score, source`, users in order of first appearance.
        """
        request = self.reader.read_frame(frame)
        ranked = self.rank(request.histories, k=self._width(k), at=request.at)
        return self.as_frame(request.users, ranked)

    def next_categories(self, history: History, column: str, k: int = 5) -> list[Likely]:
        """The k likeliest values of a category column for the next item; see `likeliest`."""
        return likeliest(self._parts, self.reader.read(history, None).histories, column, k)

    def similar_items(
        self, raw_item_id: RawId, *, k: int = 10, at: Moment | None = None
    ) -> Recommendations:
        """The k items most like one, by the first source (a model: cosine of item vectors).

        The policy's filters act; availability as of `at`, by default the end of training.
        """
        item = self._catalogue.find(raw_item_id)
        policy = self.policy.as_of(self.schema.cutoff if at is None else microseconds(at))
        found = self._pipeline.sources[0].similar(item, policy, self._width(k))
        return self._writer.one(of_source(found, 0), (), 0)

    def add_items(self, rows: ItemRows) -> Self:
        """A recommender that also recommends new items, without training; this one stays as it is.

        rows: `item_id` and the columns that the dataset encodes, as a frame or as mappings, null
        where something is not known; other columns are ignored. The two share what did not change.
        `serving.extend` writes a bundle of the result. Raises RequestError for rows that do not fit
        and for models that know items by id only.
        """
        larger = type(self)(self._parts.with_items(rows), threads=self._pipeline.threads)
        larger._compiler = larger._compiler.without(self._compiler.retired)
        larger.policy = larger._compiler.compile(larger.manifest.policy)
        return larger

    def retire_items(self, raw_item_ids: Iterable[RawId]) -> Self:
        """A recommender that never answers with these items (unknown ids are ignored), sharing all
        else with this one. Histories may still hold them: what they tell of a user stays.
        """
        retired = copy.copy(self)
        retired._compiler = self._compiler.without(self._catalogue.find_all(raw_item_ids))
        retired.policy = retired._compiler.compile(self.manifest.policy)
        return retired

    def rank(
        self,
        histories: Histories,
        *,
        k: int,
        at: Ints,
        policy: Policy | None = None,
        context: Context = NO_CONTEXT,
    ) -> Ranked:
        """The best k of each history, in dense ids; k = num_items gives a complete ordering.

        at: (B,) int64 microseconds. policy: by default the bundle's. Raises StateError where a
        source is lost: nobody reads the margins of a batch.
        """
        found = self._pipeline.rank(histories, at, policy or self.policy, k, context)
        refuse_degraded(found.degraded)
        return found

    def candidates(self, histories: Histories, *, at: Ints) -> Candidates:
        """What the ranker chooses from: the union of the sources' candidates, filtered."""
        return self._pipeline.candidates(histories, at, self.policy)

    def as_frame(self, users: pl.Series, ranked: Ranked) -> pl.DataFrame:
        """Ranked lists as rows `user_id, rank, item_id, score, source`."""
        return self._writer.frame(users, ranked)

    def check_golden(self) -> None:
        """Repeat the requests stored at export; raises BundleError for another answer.

        Items may swap places where their scores agree within 1e-3 of the greatest: another
        processor rounds differently.
        """
        refuse_other_answers(self)

    def policy_of(
        self,
        options: Options = NO_OPTIONS,
        *,
        exclude_seen: bool | None = None,
        allow: Iterable[RawId] | None = None,
        deny: Iterable[RawId] | None = None,
    ) -> Policy:
        """The policy of a request: the bundle's or its own, with fewer items where it says so."""
        policy = self.policy if options.policy is None else self._compiler.compile(options.policy)
        if exclude_seen is None and allow is None and deny is None:
            return policy
        seen = policy.exclude_seen if exclude_seen is None else exclude_seen
        find = self._catalogue.find_all
        return policy.narrowed(
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
