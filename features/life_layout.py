"""What a dataset of lives holds: file names, token numbers and `life.json`. No Polars here.

manifest.json               hashes, configuration, parent (kind `lives`)
life.json                   `LifeSchema`: fields, tokens, clocks, outcomes
life-events.arrow           timestamp int64 (microseconds UTC), tokens int32 (E, F): all events, by
                            person, oldest first
life-values.arrow           user: row; timestamp; series int32; value float32: what numeric fields
                            hold, by person, oldest first, for models that take numbers
life-users.arrow            start, end: rows of events; background int32 (U, G); birth int64
life-cases.arrow            user: row; at: int64; cut: the row where the history ends; split: 0, 1,
                            2; labels float32 (C, T), nan where not known
life-items.parquet          item_id and the item columns that events take: of logs only
vocabulary-user.arrow       column `id`: raw user id of row i

Token 0 is padding, then CLS, SEP, MASK, unknown; values follow field by field.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from features.errors import InputError
from features.life_config import FieldKind, OutcomeKind

LIVES = "lives"
"""Kind of the stage."""
LIFE = "life.json"
EVENTS, VALUES = "life-events.arrow", "life-values.arrow"
USERS, CASES = "life-users.arrow", "life-cases.arrow"
ITEMS = "life-items.parquet"
PAD, CLS, SEP, MASK, UNKNOWN = range(5)
GENERAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
SPLITS = ("train", "validation", "test")
NO_BIRTH = -(2**63)
"""Birth of a person where it is not known."""
MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS
YEAR = 365.25 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenField:
    """A column as tokens first, first + 1, ...: one a value, or one a quantile bin."""

    name: str
    kind: FieldKind
    first: int
    by: str = ""
    values: tuple[str, ...] = ()
    """category, categories: the known values, in the order of their tokens."""
    groups: tuple[str, ...] = ()
    """numeric: values of `by` that have edges; one empty string where `by` is empty."""
    edges: tuple[tuple[float, ...], ...] = ()
    """numeric: ascending inner edges of each group; the bin of x is the number of edges <= x."""
    width: int = 1
    """Tokens an event has room for."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each token means, in order."""
        if self.kind != "numeric":
            return tuple(f"{self.name}={value}" for value in self.values)
        found = []
        for group, inner in zip(self.groups, self.edges, strict=True):
            label = f"{group} " if group else f"{self.name} "
            limits = [f"{edge:.4g}" for edge in inner]
            lows, highs = ["-inf", *limits], [*limits, "inf"]
            found += [f"{label}[{a}, {b})" for a, b in zip(lows, highs, strict=True)]
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeColumn:
    """One outcome: its label, and what its probabilities are of."""

    name: str
    kind: OutcomeKind
    classes: int
    unlabelled_share: float = 0.0
    values: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the probability columns: one of a binary outcome, one a class of another."""
        if self.kind in ("binary", "positive_unlabelled"):
            return (self.name,)
        names = self.values or tuple(str(k) for k in range(self.classes))
        return tuple(f"{self.name}={value}" for value in names)


@dataclass(frozen=True)
class LifeSchema:
    """`life.json`: travels from the dataset to the bundle; all that encoding needs to know."""

    fields: tuple[TokenField, ...]
    background: tuple[TokenField, ...]
    outcomes: tuple[OutcomeColumn, ...]
    merge: int
    birth: str
    birth_tokens: bool
    origin: int | None
    """Microseconds UTC of day 1 of the first clock; None: each person's first event."""
    clock_seconds: float
    raw_user_type: Literal["int", "str"]
    default_at: int
    """The latest landmark, microseconds UTC: the moment of prediction unless one is given."""

    @cached_property
    def token_names(self) -> tuple[str, ...]:
        """What each token means."""
        fields = (*self.background, *self.fields)
        return (*GENERAL, *(name for field in fields for name in field.names))

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the numeric series: a numeric field, or one a value of the column beside it."""
        numeric = (field for field in self.fields if field.kind == "numeric")
        return tuple(group or field.name for field in numeric for group in field.groups)

    @property
    def num_tokens(self) -> int:
        """V, padding included."""
        return len(self.token_names)

    @property
    def num_prefix(self) -> int:
        """Positions before a document's first SEP: CLS and the background."""
        return 1 + len(self.background)

    @property
    def width(self) -> int:
        """F: tokens that an event has room for."""
        return self.merge or sum(field.width for field in self.fields)

    @property
    def vocabulary_hash(self) -> str:
        """Of the meaning of all tokens: equal hashes, interchangeable token ids."""
        return hashlib.sha256("\n".join(self.token_names).encode()).hexdigest()

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "LifeSchema":
        """From parsed JSON; raises TypeError or ValueError for other fields than these."""
        loose = dict(content)

        def field_of(entry: dict[str, Any]) -> TokenField:
            names = ("values", "groups")
            tuples = {name: tuple(entry[name]) for name in names}
            edges = tuple(tuple(inner) for inner in entry["edges"])
            return TokenField(**{**entry, **tuples, "edges": edges})

        loose["fields"] = tuple(field_of(entry) for entry in loose["fields"])
        loose["background"] = tuple(field_of(entry) for entry in loose["background"])
        loose["outcomes"] = tuple(
            OutcomeColumn(**{**entry, "values": tuple(entry["values"])})
            for entry in loose["outcomes"]
        )
        return cls(**loose)

    @classmethod
    def read(cls, path: Path) -> "LifeSchema":
        """Read `life.json`; raises InputError when it is missing, damaged or of other fields."""
        try:
            return cls.of(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): build the dataset again") from error
