"""The public listener: recommend, similar, events, health."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from serving.catalogue import RawId
from serving.errors import RequestError, StateError
from serving.explain import Explanation
from serving.history import Event
from serving.http import messages
from serving.http.desk import Call, Desk, NotFoundError
from serving.http.gate import Direct, Room, Visit
from serving.http.openapi import describe, operation
from serving.http.playground import add_playground
from serving.policy_spec import PolicySpec
from serving.recommender import Recommendation
from serving.requests import History, microseconds
from serving.service import Question, default_event


class PublicRoutes:
    """What the routes do; each runs on a thread of the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._service = desk, desk.service
        self._state = desk.meters.stages.labels("state")

    def recommend(self, message: messages.RecommendRequest, visit: Visit) -> messages.Answer:
        """Recommend items."""
        visit.told["user"] = self._desk.pseudonyms.of(message.user_id)
        reply = self._service.recommend(self.question(message, visit))
        self._state.observe(reply.state_seconds)
        answer = reply.answer
        return messages.Answer(
            request_id=visit.request_id,
            bundle_version=answer.bundle_version,
            at=reply.at,
            degraded=list(reply.degraded),
            unknown=answer.unknown,
            items=items_of(answer.items, columns=message.columns),
        )

    def question(self, message: messages.RecommendRequest, visit: Visit) -> Question:
        """The request in the service's terms."""
        return Question(
            request_id=visit.request_id,
            user=message.user_id,
            history=self._history(message.history),
            k=message.k,
            at=None if message.at is None else microseconds(message.at),
            exclude_seen=message.exclude_seen,
            allow=message.allow,
            deny=message.deny,
            shown=message.shown,
            segment=message.segment,
            policy=None if message.policy is None else policy_of(message.policy),
            deadline=self._desk.deadline(visit, message.deadline_ms),
        )

    def similar(self, message: messages.SimilarRequest, visit: Visit) -> messages.Answer:
        """Items like one."""
        recommender = self._service.recommender
        if not self._knows(message.item_id):
            raise NotFoundError(f"item {message.item_id!r} is not in this bundle")
        answer = recommender.similar_items(message.item_id, k=message.k)
        return messages.Answer(
            request_id=visit.request_id,
            bundle_version=answer.bundle_version,
            at=None,
            degraded=list(answer.degraded),
            unknown=0,
            items=items_of(answer.items, columns=message.columns),
        )

    def explain(self, message: messages.ExplainRequest, visit: Visit) -> messages.Why:
        """An answer step by step."""
        question, compared = self.question(message, visit), message.bundle == "compared"
        found, at, degraded = self._service.explain(question, compared=compared)
        shown = message.shown_candidates
        return messages.Why(
            answer=messages.Answer(
                request_id=visit.request_id,
                bundle_version=found.answer.bundle_version,
                at=at,
                degraded=degraded,
                unknown=found.answer.unknown,
                items=items_of(found.answer.items, columns=message.columns),
            ),
            candidates={
                name: items_of(items[:shown], columns=False)
                for name, items in found.candidates.items()
            },
            ranked=items_of(found.ranked[:shown], columns=False),
            explanations=[explanation_of(one) for one in found.items],
        )

    def append(self, message: messages.EventsRequest, visit: Visit) -> messages.Done:
        """Remember what a user did."""
        visit.told["user"] = self._desk.pseudonyms.of(message.user_id)
        name = default_event(self._service.recommender)
        events = [
            Event(past.item_id, microseconds(past.timestamp), past.event or name)
            for past in message.events
        ]
        degraded = self._service.append(message.user_id, events, message.request_id)
        return messages.Done(
            request_id=visit.request_id, count=len(events), degraded=list(degraded)
        )

    def forget(self, message: messages.ForgetRequest, visit: Visit) -> messages.Done:
        """Remove what is kept of a user."""
        visit.told["user"] = self._desk.pseudonyms.of(message.user_id)
        self._service.forget(message.user_id)
        return messages.Done(request_id=visit.request_id, count=1)

    def calls(self) -> dict[str, Call]:
        """By name."""
        every = (
            Call("recommend", messages.RecommendRequest, self.recommend),
            Call("similar", messages.SimilarRequest, self.similar),
            Call("events", messages.EventsRequest, self.append),
            Call("forget", messages.ForgetRequest, self.forget),
            Call("explain", messages.ExplainRequest, self.explain),
        )
        return {call.route: call for call in every}

    def _knows(self, raw: RawId) -> bool:
        return self._service.recommender.knows(raw)

    def _history(self, past: Sequence[RawId | messages.Past] | None) -> History | None:
        if past is None:
            return None
        if not any(isinstance(entry, messages.Past) for entry in past):
            return [entry for entry in past if not isinstance(entry, messages.Past)]
        name = default_event(self._service.recommender)
        return [
            (entry.item_id, microseconds(entry.timestamp), entry.event or name)
            if isinstance(entry, messages.Past)
            else (entry,)  # refused by the reader: entries must be alike
            for entry in past
        ]


POLICY = TypeAdapter(PolicySpec)


def policy_of(written: dict[str, Any]) -> PolicySpec:
    """A policy as a request writes it: the keys of [export.policy]. Raises RequestError."""
    try:
        return POLICY.validate_python(written)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("policy", *first["loc"])))
        raise RequestError(f"{where}: {first['msg']} ({error.error_count()} such)") from error


def items_of(found: Sequence[Recommendation], *, columns: bool) -> list[messages.Item]:
    """Recommendations as they travel."""
    return [
        messages.Item(
            item_id=item.item_id,
            score=item.score,
            source=item.source,
            title=item.title,
            propensity=item.propensity,
            marginal=item.marginal,
            columns={name: _plain(value) for name, value in item.columns.items()}
            if columns
            else None,
        )
        for item in found
    ]


def explanation_of(one: Explanation) -> dict[str, Any]:
    """Why one item is where it is, as it travels."""
    return {
        "item_id": one.item.item_id,
        "rank": one.rank,
        "proposed": [asdict(proposed) for proposed in one.proposed],
        "events": [asdict(share) for share in one.events],
        "inputs": [asdict(share) for share in one.inputs],
        "features": [asdict(share) for share in one.features],
        "moves": [asdict(move) for move in one.moves],
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def readiness(desk: Desk, room: Room) -> tuple[int, dict[str, Any]]:
    """Ready while a bundle serves and the server is not about to stop. A lost store is told but
    does not count: answers go on without it, and taking every replica out would help nobody.
    """
    degraded = []
    if desk.service.store is not None:
        try:
            desk.service.store.ping()
        except StateError:
            degraded.append("state")
    told = {
        "ready": not room.draining,
        "bundle_version": desk.service.recommender.bundle_version,
        "degraded": degraded,
    }
    return (503 if room.draining else 200), told


def public_app(desk: Desk, room: Room, *, playground: bool) -> FastAPI:
    """The application of the public listener, to be put behind a Gate."""
    app = FastAPI(title="recsys", version="1", docs_url=None, redoc_url=None)
    calls = PublicRoutes(desk).calls()
    describe(app)

    @app.post("/v1/recommend", **operation(messages.RecommendRequest, messages.Answer))
    async def recommend(request: Request) -> Response:
        """The best items for a user or a history."""
        return await desk.run(request, calls["recommend"])

    @app.post("/v1/similar", **operation(messages.SimilarRequest, messages.Answer))
    async def similar(request: Request) -> Response:
        """Items like one."""
        return await desk.run(request, calls["similar"])

    @app.post("/v1/events", **operation(messages.EventsRequest, messages.Done))
    async def events(request: Request) -> Response:
        """Remember what a user did, in the store and in the feedback log."""
        return await desk.run(request, calls["events"])

    @app.post("/v1/forget", **operation(messages.ForgetRequest, messages.Done))
    async def forget(request: Request) -> Response:
        """Remove what the store has of a user. Log files are not rewritten."""
        return await desk.run(request, calls["forget"])

    @app.post("/v1/explain", **operation(messages.ExplainRequest, messages.Why))
    async def explain(request: Request) -> Response:
        """An answer step by step: proposals, ranking, policy, and what carried each item."""
        return await desk.run(request, calls["explain"])

    add_health(app, desk, room)
    if playground:
        add_playground(app, desk)
    return app


def direct_calls(desk: Desk) -> dict[str, Direct]:
    """The routes that answer most requests, for the gate to call past the framework."""
    calls = PublicRoutes(desk).calls()

    def direct(call: Call) -> Direct:
        return lambda visit, send: desk.send(visit, call, send)

    return {f"/v1/{name}": direct(calls[name]) for name in ("recommend", "similar", "events")}


def add_health(app: FastAPI, desk: Desk, room: Room) -> None:
    """Liveness and readiness, open to anybody."""

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Whether the process lives."""
        return JSONResponse({"alive": True})

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether requests should be sent here."""
        status, told = readiness(desk, room)
        return JSONResponse(told, status)
