"""What a request may say beside its history, its moment and its filters."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.block import NO_CONTEXT, Context
from serving.catalogue import Catalogue, RawId
from serving.deadline import Deadline
from serving.errors import RequestError
from serving.policy_spec import PolicySpec
from serving.popularity import EVERYBODY, PopularitySource
from serving.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The rarer wishes of a request."""

    policy: PolicySpec | None = None
    """Replaces the bundle's policy for this request."""
    segment: str | None = None
    """Whose popularity counts; a name that the bundle does not know is everybody."""
    request_id: str | None = None
    """Where an exploring policy's draws start from; without it nothing is explored."""
    shown: Sequence[RawId] = ()
    """Items shown to this user before, repeated as often as shown, for frequency caps."""
    deadline: Deadline | None = None
    """Until when the answer is needed; what it cuts short is named in the answer."""


NO_OPTIONS = Options()


def seed_of(request_id: str) -> int:
    """64 bits of a request's name."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little")


class ContextReader:
    """Translates options to what the pipeline reads."""

    def __init__(self, catalogue: Catalogue, sources: Sequence[Source]) -> None:
        self._catalogue = catalogue
        popular = [source for source in sources if isinstance(source, PopularitySource)]
        self.segments = dict(popular[-1].segments) if popular else {}
        """Number of each segment by name."""

    def read(self, options: Options) -> Context:
        """The context of one request; raises RequestError for ids of a wrong type."""
        if options is NO_OPTIONS:
            return NO_CONTEXT
        segments = seeds = shown = None
        if options.segment is not None:
            segments = np.array([self.segments.get(options.segment, EVERYBODY)])
        if options.request_id is not None:
            if not isinstance(options.request_id, str):
                raise RequestError(f"request_id={options.request_id!r} must be text")
            seeds = np.array([seed_of(options.request_id)], np.uint64)
        if len(options.shown):
            shown = (self._catalogue.find_all(options.shown),)
        return Context(segments, seeds, shown)
