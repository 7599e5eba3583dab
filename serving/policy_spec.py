"""What a policy says, as written under [export.policy] and kept in the bundle's manifest.

    filters      exclude_seen, allow, deny, rules, availability, caps: an item is out or in
    arrangement  freshness, diversity, quotas, exploration: the first places are filled anew

Column names are those of the catalogue; values are its raw values.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from serving.formula import Formula

STRICT = ConfigDict(extra="forbid")
RawId = int | str


def _refuse(*, when: bool, because: str) -> None:
    if when:
        raise ValueError(because)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRule:
    """Items that carry one of some values of a `category` or `categories` column."""

    __pydantic_config__ = STRICT

    column: str
    values: tuple[RawId, ...]
    action: Literal["only", "never"] = "never"
    """only: nothing else is recommended (items without a value neither). never: they are not."""

    def __post_init__(self) -> None:
        _refuse(when=not self.values, because=f"the rule on {self.column} names no values")


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRule:
    """Items whose `numeric` column is from `low` to `high`; nothing else is recommended."""

    __pydantic_config__ = STRICT

    column: str
    low: float | None = None
    high: float | None = None
    missing: bool = False
    """Whether items without a number may be recommended."""

    def __post_init__(self) -> None:
        unbound = self.low is None and self.high is None
        _refuse(when=unbound, because=f"the range of {self.column} has neither low nor high")
        if self.low is not None and self.high is not None:
            _refuse(
                when=not self.low <= self.high,
                because=f"the range of {self.column} is empty: {self.low}..{self.high}",
            )


Rule = ValueRule | RangeRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Items are recommended from one moment until another; empty names and missing values bind
    nothing. The moment of the request counts, so evaluation sees what was available then.
    """

    __pydantic_config__ = STRICT

    start: str = ""
    """A `timestamp` column: available from this moment."""
    end: str = ""
    """Likewise: no longer available from this moment."""

    def __post_init__(self) -> None:
        _refuse(
            when=not (self.start or self.end), because="availability needs a start or end column"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyCap:
    """Nothing more of what the user met `at_most` times within some hours before the request."""

    __pydantic_config__ = STRICT

    at_most: int
    """Events, and exposures that the request tells of, after which it is left out."""
    hours: float = 24.0
    column: str = ""
    """Counts per value of this `category` or `categories` column; empty: per item."""
    events: tuple[str, ...] = ()
    """Behaviours of the history that count; empty: all of them."""

    def __post_init__(self) -> None:
        bad = self.at_most < 1 or not self.hours > 0
        _refuse(when=bad, because=f"a cap of {self.at_most} in {self.hours} hours is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Adds weight * 2^(-age / half_life_days) to a relevance between 0 and 1."""

    __pydantic_config__ = STRICT

    column: str
    """A `timestamp` column: when the item was new. Without a value nothing is added."""
    weight: float = 0.2
    half_life_days: float = 30.0

    def __post_init__(self) -> None:
        bad = not self.half_life_days > 0 or not self.weight >= 0
        _refuse(when=bad, because=f"freshness needs half_life_days > 0 and weight >= 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many of the first `within` places may, or must, carry values of a column."""

    __pydantic_config__ = STRICT

    column: str
    """A `category` or `categories` column."""
    at_most: int | None = None
    """Places for any one value. Kept strictly: a list ends where nothing is left that fits."""
    at_least: int = 0
    """Places for items with one of `values`, as far as there are such items."""
    values: tuple[RawId, ...] = ()
    """The values meant; empty: each value (only with at_most)."""
    within: int = 10
    """Places from the top."""

    def __post_init__(self) -> None:
        most = self.within if self.at_most is None else self.at_most
        bad = not 0 <= self.at_least <= self.within or not 0 <= most <= self.within
        _refuse(when=bad, because=f"a quota needs 0 <= at_least, at_most <= within, got {self}")
        nothing = self.at_most is None and not self.at_least
        _refuse(
            when=nothing, because=f"the quota on {self.column} says neither at_most nor at_least"
        )
        blind = bool(self.at_least) and not self.values
        _refuse(when=blind, because=f"at_least on {self.column} needs the values it is for")


@dataclass(frozen=True, slots=True, kw_only=True)
class MMR:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): each place goes to the
    greatest (1 - weight) * relevance - weight * greatest similarity to what is above.
    """

    __pydantic_config__ = STRICT

    name: Literal["mmr"] = "mmr"
    weight: float = 0.3
    similarity: str = "vectors"
    """`vectors`: cosine of the first model's item vectors; or a category column: shared values."""

    def __post_init__(self) -> None:
        _refuse(when=not 0 <= self.weight <= 1, because=f"weight={self.weight} is not in 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DPP:
    """Determinantal point process, greedy MAP (Chen, Zhang & Zhou, NeurIPS 2018): each place goes
    to the greatest (1 - weight) * relevance + weight * ln(d^2), d the volume that the item adds.
    """

    __pydantic_config__ = STRICT

    name: Literal["dpp"] = "dpp"
    weight: float = 0.3
    similarity: str = "vectors"

    def __post_init__(self) -> None:
        _refuse(when=not 0 <= self.weight < 1, because=f"weight={self.weight} is not in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Epsilon:
    """With probability `share` a place goes to any of the `pool` best, all alike."""

    __pydantic_config__ = STRICT

    name: Literal["epsilon"] = "epsilon"
    share: float = 0.1
    pool: int = 50
    seed: int = 0
    simulations: int = 64
    """Lists drawn besides, of which the chance before drawing is told that an item stands where it
    does; 0: told of the first place only."""

    def __post_init__(self) -> None:
        bad = not 0 <= self.share <= 1 or self.pool < 1 or self.simulations < 0
        _refuse(
            when=bad,
            because=f"epsilon needs share in 0..1, pool >= 1, simulations >= 0, got {self}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Thompson:
    """Each place goes to the greatest draw from Normal(relevance, sd) among the `pool` best, with
    sd = spread / sqrt(1 + events / prior): what few have met is uncertain and gets its chance.
    """

    __pydantic_config__ = STRICT

    name: Literal["thompson"] = "thompson"
    spread: float = 0.3
    """Standard deviation of an item without events; relevance lies between 0 and 1."""
    prior: float = 100.0
    """Events that halve the variance."""
    pool: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        bad = not self.spread > 0 or not self.prior > 0 or self.pool < 1
        _refuse(when=bad, because=f"thompson needs spread, prior > 0 and pool >= 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """What is applied to every answer unless the request brings another policy."""

    __pydantic_config__ = STRICT

    exclude_seen: bool = True
    """Items of the history are not recommended."""
    formula: str = ""
    """How a neural ranker's tasks make one score, `click^0.5 * buy^2` (`serving.formula`); empty:
    the powers that the bundle was exported with."""
    allow: tuple[RawId, ...] | None = None
    """Raw item ids to choose from; None: all."""
    deny: tuple[RawId, ...] = ()
    """Raw item ids never recommended."""
    rules: tuple[Rule, ...] = ()
    availability: Availability | None = None
    caps: tuple[FrequencyCap, ...] = ()
    window: int = 100
    """Best items among which the first places are filled anew."""
    freshness: Freshness | None = None
    diversity: MMR | DPP | None = None
    quotas: tuple[Quota, ...] = ()
    exploration: Epsilon | Thompson | None = None

    def __post_init__(self) -> None:
        _refuse(when=self.window < 1, because=f"window={self.window} must be at least 1")
        if self.formula:
            Formula.parse(self.formula)

    @property
    def arranges(self) -> bool:
        """Whether anything changes the order of the ranked list."""
        return bool(self.freshness or self.diversity or self.quotas or self.exploration)
