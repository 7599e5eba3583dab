"""What is kept of a log, how it is split, and how items are encoded. No Polars here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from features.layout import ColdTargets, ColumnRules, Kind

STRICT = ConfigDict(extra="forbid")
CasesOf = Literal["window", "prefixes"]
"""What a window of time asks. window: one case a user, all events in the window its targets.
prefixes: one case an event in the window, all the user's events before it its history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalTime:
    """Everybody's events before one instant train, those between two validate, the rest test.

    The honest split: no model sees what happened to anyone after the instant it is tested from.
    """

    __pydantic_config__ = STRICT

    name: Literal["global-time"] = "global-time"
    validation: float = 0.1
    """Share of all events in the validation window, the last one before the test window."""
    test: float = 0.1
    """Share of all events in the test window."""
    cases: CasesOf = "window"

    def __post_init__(self) -> None:
        if self.validation <= 0 or self.test <= 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation={self.validation} and test={self.test} must be above 0 and "
                "sum to less than 1: each part needs events"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDays:
    """As `GlobalTime`, with windows of a given length at the end of the log."""

    __pydantic_config__ = STRICT

    name: Literal["last-days"] = "last-days"
    validation_days: float = 7.0
    test_days: float = 7.0
    cases: CasesOf = "window"

    def __post_init__(self) -> None:
        _refuse_no_length(self.validation_days, self.test_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTime:
    """Whole sessions split by the time they begin at, each as if it were a user of its own.

    The protocol of session-based models (Diginetica, YooChoose): nothing of other sessions is
    known, and every prefix of a session asks for the event after it. A training session ends at
    the instant the validation window begins, should it last longer.
    """

    __pydantic_config__ = STRICT

    name: Literal["session-time"] = "session-time"
    validation_days: float = 7.0
    """Length of the window, the last one before the test window; parts of a day are allowed."""
    test_days: float = 7.0
    gap_minutes: float = 30.0
    """A longer pause than this ends a session; unused where the log names its sessions."""
    cases: Literal["prefixes"] = "prefixes"

    def __post_init__(self) -> None:
        _refuse_no_length(self.validation_days, self.test_days)
        if self.gap_minutes <= 0:
            raise ValueError(f"gap_minutes={self.gap_minutes} must be above 0")


def _refuse_no_length(validation_days: float, test_days: float) -> None:
    if validation_days <= 0 or test_days <= 0:
        raise ValueError(
            f"validation_days={validation_days} and test_days={test_days} must be above 0: each "
            "window needs a length"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOut:
    """Each user's last event tests and the one before validates: the protocol of many papers.

    A user's own future is hidden, other users' future is not: use it to compare with published
    numbers, and `GlobalTime` to know what to expect in production.
    """

    __pydantic_config__ = STRICT

    name: Literal["leave-one-out"] = "leave-one-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSession:
    """Each user's last session tests and the one before validates.

    A session is a run of events with one `session_id`, where the log has that column; otherwise
    a new one starts after a pause.
    """

    __pydantic_config__ = STRICT

    name: Literal["last-session"] = "last-session"
    gap_minutes: float = 30.0
    """A longer pause than this ends a session; unused where the log names its sessions."""

    def __post_init__(self) -> None:
        if self.gap_minutes <= 0:
            raise ValueError(f"gap_minutes={self.gap_minutes} must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutUsers:
    """Some users are held out whole: the first part of their events is given, the rest tests.

    For sequences that are complete things, such as playlists: training has seen nothing of them.
    """

    __pydantic_config__ = STRICT

    name: Literal["held-out-users"] = "held-out-users"
    validation: float = 0.1
    """Share of the users (groups) that validate."""
    test: float = 0.1
    """Share of the users (groups) that test."""
    given: float = 0.5
    """Share of a held-out user's events that are history: at least one, and one is a target."""
    group: str = ""
    """Column of the table of users: users of one group are on one side, such as the snapshots of
    one playlist. Empty: each user is a group of its own."""
    order: Literal["random", "newest"] = "random"
    """Which groups are held out: any, or the newest, of which the newest of all test."""
    newest_by: str = ""
    """Column of the table of users that says how new they are; empty: their first event."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.validation <= 0 or self.test <= 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation={self.validation} and test={self.test} must be above 0 and "
                "sum to less than 1: each part needs users"
            )
        if not 0 < self.given < 1:
            raise ValueError(f"given={self.given} is not between 0 and 1")
        if self.newest_by and self.order != "newest":
            raise ValueError(f"newest_by={self.newest_by!r} is of order='newest' only")

    @property
    def user_columns(self) -> tuple[str, ...]:
        """What it reads of the table of users."""
        return tuple(name for name in (self.group, self.newest_by) if name)


SplitConfig = Annotated[
    GlobalTime | LastDays | SessionTime | LeaveOneOut | LastSession | HeldOutUsers,
    Field(discriminator="name"),
]
Duplicates = Literal["keep", "exact", "consecutive", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """Events to dataset."""

    __pydantic_config__ = STRICT

    events: tuple[str, ...] = ()
    """Behaviours to keep, in the order of their codes; empty keeps all, by name."""
    target_events: tuple[str, ...] = ()
    """Behaviours to predict in validation and test; empty means every one that is kept."""
    duplicates: Duplicates = "exact"
    """Rows to drop. keep: none. exact: repeats of user, item, time and behaviour. consecutive:
    also an event like the user's event before it. first: all but the first event of a user,
    item and behaviour."""
    users: int = 0
    """Users kept, drawn at random (always the same ones), to try things on a part of a log; 0
    keeps all."""
    min_user_events: int = 1
    """Users with fewer events are dropped, together with `min_item_events` to a fixed point.
    The counts include validation and test: above 1, the split knows a little of the future."""
    min_item_events: int = 1
    """Items with fewer events are dropped."""
    split: SplitConfig = field(default_factory=GlobalTime)
    catalogue: Literal["events", "items"] = "events"
    """Items to know: those with events, or also the others in the item table."""
    cold_targets: ColdTargets = "keep"
    """Targets that training never saw: part of the test, or left out and counted."""
    item_columns: tuple[str, ...] | Literal["all"] = "all"
    """Declared item columns to encode."""
    item_kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Kinds of item columns that are to be encoded otherwise than the source declares."""
    max_values: int = 10_000
    """Known values of a category column, the most frequent first; the others become unknown."""
    max_categories: int = 16
    """Values kept per item of a column with several."""
    max_levels: int = 4
    """Levels kept of a column of paths, the general ones first."""
    buckets: int = 0
    """Quantile buckets of every numeric column, fitted on training items, as a column
    `<name>.bucket` of categories beside the number itself; 0 makes none."""
    max_tokens: int = 32
    """Tokens kept per text."""
    tokenizer_size: int = 4_096
    """Tokens of the tokenizer trained on the text columns, 258 of them single bytes or special."""
    covisit_reach: int = 0
    """Events before an event whose items count as visited together with it, for the features of
    co-visitation (`features.asof_covisits`); 0 counts none and takes no room."""
    rules: Mapping[str, ColumnRules] = field(default_factory=dict)
    """What serving refuses and what it coerces, by item column, and for `item_id` and `event`."""
    tokenizer: str = ""
    """Path of a pretrained model's `tokenizer.json` to use instead; empty trains one."""
    sentence: tuple[str, ...] = ()
    """Item columns that make up an item's sentence, in order, of any kind; for models that read an
    item as one text (Recformer). Empty: no sentences."""
    sentence_tokens: int = 32
    """Tokens of one attribute in a sentence, at most, those of its name among them."""

    def __post_init__(self) -> None:
        if self.events and (alien := set(self.target_events) - set(self.events)):
            raise ValueError(
                f"target_events {sorted(alien)} are not among events {list(self.events)}: "
                "nothing of them would be left to predict"
            )
        if self.users < 0:
            raise ValueError(f"users={self.users} must be 0 (all) or a number of users to keep")
        least_one = ("min_user_events", "min_item_events", "max_values", "max_categories")
        for name in (*least_one, "max_levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.buckets == 1 or self.buckets < 0:
            raise ValueError(f"buckets={self.buckets} must be 0 (none) or at least 2")
        if self.covisit_reach < 0:
            raise ValueError(f"covisit_reach={self.covisit_reach} must be 0 (none) or more")
        if self.sentence_tokens < 2 or len(set(self.sentence)) != len(self.sentence):
            raise ValueError(
                f"sentence={list(self.sentence)} must name each column once, and sentence_tokens="
                f"{self.sentence_tokens} be at least 2: a name and something to say of it"
            )
        if self.max_tokens < 1 or self.tokenizer_size < 258:
            raise ValueError(
                f"max_tokens={self.max_tokens} must be at least 1 and tokenizer_size="
                f"{self.tokenizer_size} at least 258, one token a byte and two special ones"
            )
