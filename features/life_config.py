"""How dated events become documents, cases and outcomes: the [life] section. No Polars here.

[life]
fields = [{ name = "code" }, { name = "value", kind = "numeric", by = "code" }]
background = [{ name = "sex" }]
outcomes = [{ name = "death", rule = "event", column = "code", values = ["death"] }]
[life.cohort]
name = "date"
at = "2005-01-01"
window_days = 1826
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid")
FieldKind = Literal["category", "categories", "numeric"]
OutcomeKind = Literal["binary", "positive_unlabelled", "ordinal", "multi_class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeField:
    """One column of the events, or of the persons, as tokens."""

    __pydantic_config__ = STRICT

    name: str
    kind: FieldKind = "category"
    """category: a token a value. categories: a list column, a token each. numeric: a quantile."""
    by: str = ""
    """Numeric only: a category column; quantiles are fitted for each of its values."""
    bins: int = 10
    """Numeric: quantile bins, at most."""
    min_people: int = 1
    """A value needs this many distinct training persons, or it is unknown."""
    width: int = 3
    """categories: tokens kept per event."""

    def __post_init__(self) -> None:
        if self.by and self.kind != "numeric":
            raise ValueError(f"field {self.name}: by={self.by!r} needs kind='numeric'")
        if self.bins < 2 or self.min_people < 1 or self.width < 1:
            raise ValueError(
                f"field {self.name}: bins={self.bins} must be at least 2, min_people="
                f"{self.min_people} and width={self.width} at least 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCases:
    """Cases and labels stand in the source's outcomes table: user_id, at, label columns."""

    __pydantic_config__ = STRICT

    name: Literal["given"] = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDate:
    """One case a person, all at one moment; persons not at risk then are left out."""

    __pydantic_config__ = STRICT

    name: Literal["date"] = "date"
    at: date
    """The landmark: events before its midnight (UTC) are history, those from it on outcome."""
    window_days: int
    """Length of the outcome window."""
    min_events: int = 1
    """Persons with fewer events before the landmark are left out."""
    active_days: int = 0
    """Persons without an event in so many days before the landmark are left out; 0: nobody is."""

    def __post_init__(self) -> None:
        if self.window_days < 1 or self.min_events < 1 or self.active_days < 0:
            raise ValueError(
                f"window_days={self.window_days} and min_events={self.min_events} must be at "
                f"least 1, active_days={self.active_days} at least 0"
            )


CohortConfig = Annotated[GivenCases | AtDate, Field(discriminator="name")]
Rule = Literal["event", "no_event", "count", "first_value", "given"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeConfig:
    """One label, by a rule over the events of the outcome window.

    event: 1 where an event with one of `values` in `column` occurs, else 0. no_event: the other way
    round (churn). count: how many such events, as a class by `thresholds`. first_value: the value
    of `column` in the first event of the window, a class each of `values`. given: a column of the
    outcomes table. Where the follow-up ends inside the window before the label is settled, it is
    not known. Empty `values` mean any event.
    """

    __pydantic_config__ = STRICT

    name: str
    rule: Rule = "given"
    kind: OutcomeKind = "binary"
    """positive_unlabelled: a label of 0, or one that is not known, may still be a 1."""
    column: str = ""
    values: tuple[str, ...] = ()
    thresholds: tuple[int, ...] = ()
    """count: class k starts at thresholds[k - 1]; ascending."""
    classes: int = 2
    """given: number of values of the label, 0..classes - 1."""
    terminal: bool = False
    """Persons with such an event before the landmark are no longer at risk, and left out."""
    unlabelled_share: float = 0.0
    """alpha of the corrected metrics: positives among those labelled 0."""

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"outcome {self.name}: fewer than two classes")
        if self.values and not self.column:
            raise ValueError(f"outcome {self.name}: values need a column")
        if self.kind in ("binary", "positive_unlabelled") and self.num_classes != 2:
            raise ValueError(
                f"outcome {self.name}: {self.num_classes} classes need kind='ordinal' or "
                f"'multi_class'"
            )
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"outcome {self.name}: thresholds={self.thresholds} must ascend")
        if not 0 <= self.unlabelled_share < 1:
            raise ValueError(f"outcome {self.name}: unlabelled_share is not in 0..1")

    @property
    def num_classes(self) -> int:
        """Values of the label, 0..num_classes - 1."""
        if self.rule == "count":
            return len(self.thresholds) + 1
        if self.rule == "first_value":
            return len(self.values)
        return self.classes if self.rule == "given" else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeConfig:
    """Dated events to a dataset of documents, cases and labels."""

    __pydantic_config__ = STRICT

    fields: tuple[LifeField, ...]
    """Columns of the events (or of the items of a log), in the order of an event's tokens."""
    outcomes: tuple[OutcomeConfig, ...]
    merge: int = 0
    """Rows of one person and moment become one event of at most so many tokens (what is beyond
    makes a further event); 0: every row is an event."""
    background: tuple[LifeField, ...] = ()
    """Columns of the persons that hold at every moment."""
    birth: str = ""
    """Timestamp column of the persons: the second clock is then the age in years."""
    birth_tokens: bool = False
    """Month and year of birth as background."""
    origin: Literal["first_event"] | date = "first_event"
    """Day 1 of the first clock: a date, or each person's first event."""
    clock_seconds: float = 86_400.0
    """Unit of the first clock."""
    follow_up_end: str = ""
    """Timestamp column of the persons after which nothing is known; empty: the log's last event."""
    cohort: CohortConfig = field(default_factory=GivenCases)
    validation: float = 0.15
    """Share of the persons."""
    test: float = 0.15
    seed: int = 123
    """Of the split by person."""

    def __post_init__(self) -> None:
        if not self.fields or not self.outcomes:
            raise ValueError("life needs at least one field and one outcome")
        for group in (self.fields, self.background, self.outcomes):
            names = [entry.name for entry in group]
            if len(set(names)) != len(names):
                raise ValueError(f"life names {sorted(names)}: each once")
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                f"validation={self.validation} and test={self.test} must be positive shares that "
                f"leave some for training"
            )
        given = isinstance(self.cohort, GivenCases)
        if wrong := [o.name for o in self.outcomes if (o.rule == "given") != given]:
            raise ValueError(
                f"outcomes {wrong}: rule 'given' goes with cohort 'given', other rules with a date"
            )
        if self.birth_tokens and not self.birth:
            raise ValueError("birth_tokens needs birth")
        if self.merge < 0:
            raise ValueError(f"merge={self.merge} is negative")
        if self.clock_seconds <= 0:
            raise ValueError(f"clock_seconds={self.clock_seconds} must be positive")
