"""What the server does, without HTTP: a recommender, a store of histories and the logs of what was
shown, together. A lost store or a full log shows in the answer or in the counters, and costs no
answer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from serving.catalogue import RawId
from serving.deadline import Deadline
from serving.errors import RequestError, StateError
from serving.explain import Explained
from serving.history import Event, HistoryStore
from serving.live import Live
from serving.options import Options
from serving.parquet_log import ParquetLog
from serving.policy_spec import PolicySpec
from serving.recommender import Recommendations, Recommender
from serving.requests import History

EPOCH = datetime(1970, 1, 1)
HISTORY = 200
"""Events read from the store for one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who asks for how much, and under which conditions."""

    request_id: str
    user: RawId | None = None
    history: History | None = None
    """None: what the store has of the user."""
    k: int = 10
    at: int | None = None
    """Microseconds UTC; None: now, or the last event where that is later."""
    exclude_seen: bool | None = None
    allow: Sequence[RawId] | None = None
    deny: Sequence[RawId] | None = None
    shown: Sequence[RawId] = ()
    segment: str | None = None
    policy: PolicySpec | None = None
    deadline: Deadline | None = None

    def options(self) -> Options:
        """The rarer wishes, as the library takes them."""
        return Options(
            policy=self.policy,
            segment=self.segment,
            request_id=self.request_id,
            shown=self.shown,
            deadline=self.deadline,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, the moment it holds for, and what was missing for it."""

    answer: Recommendations
    at: int
    degraded: tuple[str, ...]
    state_seconds: float
    """Spent on the store."""


@dataclass(slots=True)
class Service:
    """Safe to share between threads. What serves may change at any time: an answer comes whole from
    the recommender it started with.
    """

    live: Live
    store: HistoryStore | None = None
    exposures: ParquetLog | None = None
    feedback: ParquetLog | None = None
    compared: Live | None = None
    """Another bundle to hold beside it, for explanations only."""
    started: float = field(default_factory=time.time)

    @property
    def recommender(self) -> Recommender:
        """What serves now: read it once a request."""
        return self.live.recommender

    def recommend(self, question: Question) -> Reply:
        """The best items for a user or a history. Raises RequestError or DeadlineExceeded."""
        recommender = self.recommender
        began = time.perf_counter()
        history, lost = self._history(recommender, question)
        state_seconds = time.perf_counter() - began
        at = question.at
        if at is None:
            at = max(_now(), _last(history))
        answer = recommender.recommend(
            history,
            k=question.k,
            at=at,
            exclude_seen=question.exclude_seen,
            allow=question.allow,
            deny=question.deny,
            options=question.options(),
        )
        degraded = (*lost, *answer.degraded)
        self._log_exposures(question, answer, degraded)
        return Reply(answer, at, degraded, state_seconds)

    def explain(self, question: Question, *, compared: bool) -> tuple[Explained, int, list[str]]:
        """An answer step by step, the moment it holds for, and what was missing. Not logged as
        shown. Raises RequestError.
        """
        live = self.compared if compared else self.live
        if live is None:
            raise RequestError("no second bundle: start the server with --compare")
        history, lost = self._history(live.recommender, question)
        at = max(_now(), _last(history)) if question.at is None else question.at
        found = live.recommender.explain(history, k=question.k, at=at, options=question.options())
        return found, at, [*lost, *found.answer.degraded]

    def append(
        self, user: RawId, events: Sequence[Event], request_id: str | None = None
    ) -> tuple[str, ...]:
        """Remember what a user did; what could not be done is named. Raises RequestError for
        item ids of another type than the bundle's, and StateError where nothing was kept.
        """
        check_types(self.recommender, [event.item for event in events])
        if self.feedback is not None:
            self.feedback.record(
                [
                    (request_id, _moment(event.timestamp), str(user), str(event.item), event.event)
                    for event in events
                ]
            )
        if self.store is None:
            if self.feedback is None:
                raise StateError("nothing keeps events here: start the server with --state")
            return ("state",)
        try:
            self.store.append(user, events)
        except StateError:
            if self.feedback is None:
                raise
            return ("state",)
        return ()

    def forget(self, user: RawId) -> None:
        """Remove what the store has of a user; raises StateError. Log files are not rewritten."""
        if self.store is not None:
            self.store.forget(user)

    def close(self) -> None:
        """Write the logs out and let go of the store."""
        for log in (self.exposures, self.feedback):
            if log is not None:
                log.close()
        if self.store is not None:
            self.store.close()
        self.live.close()
        if self.compared is not None:
            self.compared.close()

    def _history(
        self, recommender: Recommender, question: Question
    ) -> tuple[History, tuple[str, ...]]:
        if question.history is not None:
            return question.history, ()
        if question.user is None or self.store is None:
            return (), ()
        try:
            found = self.store.last(question.user, HISTORY)
        except StateError:
            return (), ("state",)
        return known_events(recommender, found), ()

    def _log_exposures(
        self, question: Question, answer: Recommendations, degraded: tuple[str, ...]
    ) -> None:
        if self.exposures is None:
            return
        user = None if question.user is None else str(question.user)
        now = EPOCH + timedelta(microseconds=_now())
        version, reasons = answer.bundle_version, list(degraded)
        self.exposures.record(
            [
                (
                    question.request_id,
                    now,
                    user,
                    str(item.item_id),
                    rank,
                    item.marginal,
                    item.propensity,
                    float(item.score),
                    item.source,
                    version,
                    reasons,
                )
                for rank, item in enumerate(answer.items, 1)
            ]
        )


def default_event(recommender: Recommender) -> str:
    """The behaviour of an event that names none: what the bundle predicts."""
    schema = recommender.schema
    targets = [name for name in schema.target_events if name in schema.event_types]
    return (*targets, *schema.event_types)[0]


def check_types(recommender: Recommender, raw_item_ids: Sequence[RawId]) -> None:
    """Raise RequestError for ids of another type than the bundle's."""
    kind = int if recommender.schema.raw_item_type == "int" else str
    if wrong := [raw for raw in raw_item_ids if type(raw) is not kind]:
        raise RequestError(
            f"item ids of this bundle are {kind.__name__}, got {wrong[0]!r} ({len(wrong)} such)"
        )


def known_events(recommender: Recommender, events: Sequence[Event]) -> list[Event]:
    """Without what an earlier bundle took and this one cannot read."""
    kind = int if recommender.schema.raw_item_type == "int" else str
    names = set(recommender.schema.event_types)
    return [event for event in events if type(event.item) is kind and event.event in names]


def _now() -> int:
    return time.time_ns() // 1_000


def _last(history: History) -> int:
    """When a history ends, microseconds UTC; 0 where that is not known."""
    if not len(history) or not isinstance(history[-1], tuple):
        return 0
    moment = history[-1][1]
    return moment if isinstance(moment, int) else 0


def _moment(microseconds: int) -> datetime | None:
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # beyond the year 9999
        return None
