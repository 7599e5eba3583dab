"""What a `dataset/` holds: file names, array types and `schema.json`. No Polars here.

manifest.json          hashes, configuration, parent
schema.json            `DatasetSchema`
events.arrow           item_id int32, timestamp int64 (microseconds UTC), event uint8:
                       all events, grouped by user, oldest first (the values of a jagged table)
users.arrow            one row a user, int64 cut points into events.arrow (see `CUTS`)
items.arrow            row i = dense item id i (row 0: padding): the encoded attributes
item-timeline*.arrow   what the ranking features know of items (owned by `features.timeline`)
item-covisits.arrow    which items follow which, where that is counted (`features.covisits`)
vocabulary-item.arrow  column `id`: raw item id of dense id i + 1;  -user, -<column> likewise
parts/                 of a log in parts: what a grown dataset takes over (`features.partitioned`)
catalogue.parquet      raw item_id and declared columns, row i = dense id i + 1: for display
tokenizer.json         where a text column is declared
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from features.errors import InputError

SCHEMA = "schema.json"
EVENTS = "events.arrow"
USERS = "users.arrow"
ITEMS = "items.arrow"
CATALOGUE = "catalogue.parquet"
TOKENIZER = "tokenizer.json"
PARTS = "parts"

CUTS = ("start", "train_end", "validation_start", "validation_end", "test_start", "test_end")
"""Row numbers in events.arrow, a user each. Training reads [start, train_end). A case of a split
has the history [start, <split>_start) and the targets [<split>_start, <split>_end)."""

Kind = Literal["text", "category", "categories", "numeric", "timestamp", "path"]
"""What a source declares of a column. A path, a list from the general to the special, is encoded
as one `category` column a level."""
EncodedKind = Literal["text", "category", "categories", "numeric", "timestamp", "sentence"]
Split = Literal["validation", "test"]
ColdTargets = Literal["keep", "drop"]


def vocabulary_file(name: str) -> str:
    """File of one vocabulary: `item`, `user`, or the name of an item column."""
    return f"vocabulary-{name}.arrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemColumn:
    """One encoded item attribute in items.arrow.

    text: int32 (N + 1, width) token ids, 0 padding.  category: int32 (N + 1,).
    categories: int32 (N + 1, width), 0 padding.  Values 0 missing, 1 unknown, 2.. known.
    numeric: float32 (N + 1,), nan missing.  timestamp: int64 (N + 1,) microseconds, 0 missing.
    sentence: int32 (N + 1, width) token ids, those of attribute names negated, 0 padding.

    Derived of a declared column are, as categories: `<name>.<level>` of a path (1 is the most
    general), and `<name>.bucket` of a number: code 2 + (edges at or below the value), 0 missing.
    """

    name: str
    kind: EncodedKind
    size: int = 0
    """Number of values including 0 and 1 (text: of tokens); 0 for numeric and timestamp."""
    width: int = 1
    """Values kept per item."""
    source: str = ""
    """The declared column this one is derived of; empty where it is a declared one itself."""
    edges: tuple[float, ...] = ()
    """Of a bucket column: ascending values of training items, where one bucket ends."""
    offset: int = 0
    """Of a text column: what was added to the tokenizer's ids, so that none of them is 0."""
    attributes: tuple[str, ...] = ()
    """Of the sentence: the declared columns it is made of, in order."""
    attribute_tokens: int = 0
    """Of the sentence: tokens of one attribute, at most, those of its name among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRules:
    """What becomes of values that a dataset has not seen, in one column (`features.contract`)."""

    unknown_value: Literal["unknown", "refuse"] = "unknown"
    """A value of categories that training did not see, or an id: unknown, or the request is
    refused. An event of unknown `item_id` or `event` is left out of its history, and counted."""
    out_of_range: Literal["keep", "clip", "unknown", "refuse"] = "keep"
    """A number outside [low, high]: as it is, the nearer end, missing, or refused."""
    wrong_type: Literal["refuse", "unknown"] = "refuse"
    """A value of another type: refused, or converted where it can be, else missing."""
    low: float | None = None
    """Of numbers; None takes the least of training items."""
    high: float | None = None
    """Of numbers; None takes the greatest of training items."""

    def __post_init__(self) -> None:
        for name, allowed in RULES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}, expected one of {allowed}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")


RULES = {
    "unknown_value": ("unknown", "refuse"),
    "out_of_range": ("keep", "clip", "unknown", "refuse"),
    "wrong_type": ("refuse", "unknown"),
}
REQUEST_RULES = {"item_id": ColumnRules(), "event": ColumnRules(unknown_value="refuse")}
"""Of the columns of a history, where a schema says nothing of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSchema:
    """`schema.json`: travels from dataset to run to bundle."""

    num_users: int
    num_items: int
    num_warm_items: int
    """Dense ids 1..num_warm_items occur in training; the ids above them are cold."""
    num_events: int
    event_types: tuple[str, ...]
    """Behaviours; `event` code i + 1 means event_types[i]."""
    target_events: tuple[str, ...]
    """Behaviours that count as targets in validation and test."""
    cold_targets: ColdTargets
    """`drop`: evaluation leaves out targets above `num_warm_items`, and says how many."""
    item_columns: tuple[ItemColumn, ...]
    title_column: str
    """Column to show beside an item; empty where there is none."""
    raw_item_type: Literal["int", "str"]
    raw_user_type: Literal["int", "str"]
    cutoff: int
    """Latest training timestamp, microseconds UTC."""
    split: Mapping[str, Any]
    """The split's name and parameters, for the protocol fingerprint. A split by time also has
    `validation_from` and `test_from`: the first microsecond of each window, UTC."""
    tokenizer: Literal["trained", "pretrained"] = "trained"
    """Whether `tokenizer.json` was trained on the training items' texts or came as a file."""
    grown: bool = False
    """Made of an older dataset and a longer log: ids of the older one are kept, so that ids up to
    `num_warm_items` may be among them that no training event names any more."""
    num_untrained_items: int = 0
    """How many such ids there are."""
    covisit_reach: int = 0
    """Events before an event that count as visited together with it; 0: nothing is counted."""
    rules: Mapping[str, ColumnRules] = field(default_factory=dict)
    """By declared column, and of `item_id` and `event`: what serving refuses and what it coerces.
    A column that is not named has the rules of `rule`."""

    def rule(self, name: str) -> ColumnRules:
        """The rules of a column; the default ones where nothing is said of it."""
        return self.rules.get(name) or REQUEST_RULES.get(name) or ColumnRules()

    def write(self, directory: Path) -> None:
        """Write `schema.json` into `directory`."""
        (directory / SCHEMA).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "DatasetSchema":
        """Read `schema.json`; raises InputError when it is missing, damaged or of other fields."""
        path = directory / SCHEMA
        try:
            content = json.loads(path.read_text())
            columns = tuple(_column(column) for column in content.pop("item_columns"))
            for name in ("event_types", "target_events"):
                content[name] = tuple(content[name])
            rules = {n: ColumnRules(**rule) for n, rule in content.pop("rules", {}).items()}
            return cls(item_columns=columns, rules=rules, **content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): build the dataset again") from error


def _column(content: Mapping[str, Any]) -> ItemColumn:
    plain: dict[str, Any] = {n: tuple(x) if isinstance(x, list) else x for n, x in content.items()}
    return ItemColumn(**plain)
