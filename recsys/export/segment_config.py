"""The [export.segments] settings: whose popularity is kept apart."""

from dataclasses import dataclass

from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """The [export.segments] section."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    users: str
    """A Parquet file with `user_id` (raw ids) and the column below, a row a user."""
    column: str
    """Text, or what can be written as text; users without a value are in no segment."""
    least_events: int = 1_000
    """Smaller segments are left out: requests for them get everybody's list."""
    prior: float = 200.0
    """Events in everybody's proportions added to each segment, so that a few clicks decide
    nothing."""
