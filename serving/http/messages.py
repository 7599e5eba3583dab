"""What travels over HTTP, as types: unknown fields, wrong types and impossible numbers are refused
while decoding, and the OpenAPI document is made from the same types.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from serving.history import FARTHEST

MAX_K = 1_000
MAX_HISTORY = 10_000
MAX_LIST = 100_000
NAME = 256
"""Characters of an id or a behaviour."""

Name = Annotated[str, Meta(min_length=1, max_length=NAME)]
Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Name
Moment = Annotated[int, Meta(ge=-FARTHEST + 1, le=FARTHEST - 1)] | datetime
"""Microseconds UTC, or RFC 3339."""
Count = Annotated[int, Meta(ge=1, le=MAX_K)]
Milliseconds = Annotated[float, Meta(gt=0, le=60_000)]
Ids = Annotated[list[Id], Meta(max_length=MAX_LIST)]


class Message(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all requests."""


class Past(Message):
    """One event of a history."""

    item_id: Id
    timestamp: Moment
    event: Name | None = None
    """Behaviour; by default the one the bundle predicts."""


class RecommendRequest(Message):
    """Recommend items to a user whose events the server keeps, or after a history given here."""

    user_id: Id | None = None
    history: Annotated[list[Id | Past], Meta(max_length=MAX_HISTORY)] | None = None
    """Oldest first; replaces what is kept of the user."""
    k: Count = 10
    at: Moment | None = None
    """Moment of the request; by default now."""
    exclude_seen: bool | None = None
    allow: Ids | None = None
    """Only these items."""
    deny: Ids | None = None
    """None of these items."""
    shown: Annotated[list[Id], Meta(max_length=MAX_HISTORY)] = []
    """Items shown to this user of late, for frequency caps."""
    segment: Name | None = None
    policy: dict[str, Any] | None = None
    """Replaces the bundle's policy: the keys of [export.policy]."""
    deadline_ms: Milliseconds | None = None
    columns: bool = False
    """Whether to tell everything the catalogue holds of each item."""


class ExplainRequest(RecommendRequest):
    """Why the items of this answer are in it. Costs some ten requests."""

    bundle: Literal["serving", "compared"] = "serving"
    """Which of the two bundles answers, where the server was started with a second one."""
    shown_candidates: Annotated[int, Meta(ge=0, le=MAX_K)] = 50
    """Proposals told of each source, and items of the ranked list."""


class SimilarRequest(Message):
    """Items like one."""

    item_id: Id
    k: Count = 10
    columns: bool = False


class EventsRequest(Message):
    """What a user did."""

    user_id: Id
    events: Annotated[list[Past], Meta(min_length=1, max_length=MAX_HISTORY)]
    request_id: Name | None = None
    """Of the answer these events came from, for the feedback log."""


class ForgetRequest(Message):
    """Remove what is kept of a user."""

    user_id: Id


class AddItemsRequest(Message):
    """Items that the bundle does not know: their rows of the catalogue."""

    items: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_LIST)]


class RetireItemsRequest(Message):
    """Items never to be recommended again."""

    item_ids: Annotated[list[Id], Meta(min_length=1, max_length=MAX_LIST)]


class RefreshRequest(Message):
    """Look at CURRENT now."""


class RollbackRequest(Message):
    """Serve an older version of the registry."""

    version: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,128}$")] | None = None
    """By default the one before."""


class Item(Struct, kw_only=True, omit_defaults=True):
    """One recommended item."""

    item_id: Id
    score: float | None
    source: str
    title: str | None
    propensity: float = 1.0
    """Chance that the policy put it at its place, given those above it."""
    marginal: float | None = 1.0
    """The same before drawing; null where it is not known."""
    columns: dict[str, Any] | None = None


class Answer(Struct, kw_only=True):
    """Recommended items, best first, and how they came about."""

    request_id: str
    bundle_version: str
    at: int | None
    """Microseconds UTC: ask again with it for the same answer."""
    degraded: list[str]
    """What is missing from a full answer; empty for one."""
    unknown: int
    """Events of the history whose item the bundle does not know."""
    items: list[Item]


class Why(Struct, kw_only=True):
    """An answer step by step."""

    answer: Answer
    candidates: dict[str, list[Item]]
    """Each source's proposals, best first."""
    ranked: list[Item]
    """Before the policy arranged them."""
    explanations: list[dict[str, Any]]
    """Of each item of the answer: `proposed` by whom at which rank, shares of `events`, `inputs`
    and `features` in its score, and the `moves` of the policy."""


class Done(Struct, kw_only=True):
    """What was changed."""

    request_id: str
    count: int
    degraded: list[str] = []


class Release(Struct, kw_only=True):
    """What serves after an attempt to change it."""

    swapped: bool
    bundle_version: str
    added_items: int
    retired_items: int
    release: str
    swaps: int
    last_known_good: bool
    refused: str | None
    reason: str | None


class Fault(Struct, kw_only=True):
    """Why there is no answer."""

    error: str
    """Who must act: `request`, `unauthorised`, `too_large`, `overload`, `deadline`, `state`,
    `not_found`, `unavailable` or `bug`."""
    message: str
    request_id: str


REQUESTS = (
    RecommendRequest,
    ExplainRequest,
    SimilarRequest,
    EventsRequest,
    ForgetRequest,
    AddItemsRequest,
    RetireItemsRequest,
    RefreshRequest,
    RollbackRequest,
)
RESPONSES = (Answer, Why, Done, Release, Fault)


def components() -> dict[str, Any]:
    """JSON schemas by name, for OpenAPI."""
    template = "#/components/schemas/{name}"
    _, found = msgspec.json.schema_components((*REQUESTS, *RESPONSES), ref_template=template)
    return dict(found)
