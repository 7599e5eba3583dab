"""Where a log comes from: one dataclass a source. No Polars here, so that any layer may read it.

TOML, section `[data]`: the key `source` picks the class, unknown keys are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from data.life_config import LifeFiles, LifeStudy, MedsFiles
from features.layout import Kind

STRICT = ConfigDict(extra="forbid")
EVENT_COLUMNS = ("user_id", "item_id", "timestamp", "event", "session_id", "value")
MAX_PARTS = 4_096
REQUIRED_COLUMNS = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """The made-up shop of `data.synthetic`. Needs no network and no files."""

    __pydantic_config__ = STRICT

    source: Literal["synthetic"] = "synthetic"
    num_users: int = 3_000
    num_items: int = 800
    clicks_per_user: int = 32
    """Mean; at least 8. Favourites, carts and purchases come on top, about a third as many."""
    days: int = 180
    """Span of the log, which starts on 2025-01-01."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("num_users", 1),
            ("num_items", 60),
            ("clicks_per_user", 8),
            ("days", 14),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least {least}")
        if self.num_items < 8 * self.clicks_per_user:
            raise ValueError(
                f"num_items={self.num_items} is below 8 * clicks_per_user="
                f"{8 * self.clicks_per_user}: users, who never click twice, would run out of items"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieLens:
    """MovieLens by GroupLens: downloaded, or read below the folder named by RECSYS_DATA."""

    __pydantic_config__ = STRICT

    source: Literal["movielens-100k", "movielens-1m"]
    cache: str = "~/.cache/recsys"
    """Folder of the downloaded archive; not used where RECSYS_DATA is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicData:
    """A public data set, read below the folder named by RECSYS_DATA: docs/datasets.md."""

    __pydantic_config__ = STRICT

    source: Literal[
        "30music",
        "aliexpress",
        "amazon-2014",
        "amazon-2018",
        "amazon-2023",
        "art-of-the-mix",
        "beibei",
        "classic-rock",
        "complete-journey",
        "diginetica",
        "food-com",
        "globo",
        "kuairand",
        "meds",
        "movielens-10m",
        "movielens-20m",
        "movielens-25m",
        "movielens-32m",
        "otto",
        "physionet-2012",
        "rees46",
        "retailrocket",
        "spotify-mpd",
        "spotify-playlists",
        "steam",
        "taobao",
        "taobao-slice",
        "tenrec",
        "tmall-2014",
        "tmall-ijcai15",
        "trivago",
        "trivago-shown",
        "yelp",
        "yoochoose-buys",
        "yoochoose-clicks",
    ]
    part: str = ""
    """Which part of a data set that is published in parts, such as a category of Amazon."""
    cache: str = "~/.cache/recsys"
    """Folder of a downloaded archive; not used where RECSYS_DATA is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFile:
    """The table of items that goes with a log."""

    __pydantic_config__ = STRICT

    paths: tuple[str, ...]
    """Files or globs; CSV, Parquet or JSON Lines, by suffix."""
    item_id: str = "item_id"
    """Its column of ids, as they stand in the log."""
    columns: Mapping[str, Kind]
    """Columns to keep, and the kind of each. Others are left out."""
    title: str = ""
    """The text column to show beside an item; empty: the first of kind text."""
    list_separator: str = "|"
    """Between the values of a `categories` column that is text in the file."""

    def __post_init__(self) -> None:
        if self.title and self.columns.get(self.title) != "text":
            raise ValueError(
                f"title={self.title!r} is not a text column of columns={dict(self.columns)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFile:
    """The table of users that goes with a log."""

    __pydantic_config__ = STRICT

    paths: tuple[str, ...]
    user_id: str = "user_id"
    columns: tuple[str, ...]
    """Background columns to keep. Others are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """Your own log: CSV, Parquet or JSON Lines files, one event a row."""

    __pydantic_config__ = STRICT

    source: Literal["log"] = "log"
    paths: tuple[str, ...]
    """Files or globs, read in the order of their names within a glob."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column -> yours, for user_id, item_id, timestamp, event, session_id, value. One that is
    not named here is sought under our name; the last three may be absent."""
    event_default: str = "interaction"
    """The behaviour of every row, where the log has no such column."""
    timestamp: Literal["s", "ms", "us", "iso"] = "s"
    """Numbers since 1970 in this unit, or ISO 8601 texts. Times without a zone are UTC; a column
    that Parquet already types as a time is taken as it is."""
    order: Literal["require", "sort"] = "require"
    """`require`: each user's rows must already stand in order of time; ties keep the order of the
    file. `sort`: sort them, stably."""
    separator: str = ","
    """Of CSV files."""
    on_error: Literal["stop", "skip"] = "stop"
    """A row that cannot be used: an error, or left out, counted and listed in rejected.jsonl."""
    parts: int = 0
    """For a log larger than memory: the number of parts by hash of the user, each of which must
    fit memory several times (1 to 2 million events are a good size). 0 keeps all in memory."""
    items: ItemFile | None = None
    users: UserFile | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.parts <= MAX_PARTS:
            raise ValueError(f"parts={self.parts}, expected 0 (in memory) to {MAX_PARTS}")
        if unknown := sorted(set(self.columns) - set(EVENT_COLUMNS)):
            raise ValueError(
                f"columns maps {unknown}, expected keys among {list(EVENT_COLUMNS)}: "
                f"write our_name = 'your name'"
            )


DataConfig = Annotated[
    Synthetic | MovieLens | PublicData | LogFiles | LifeFiles | MedsFiles | LifeStudy,
    Field(discriminator="source"),
]
