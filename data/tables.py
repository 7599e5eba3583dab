"""What every source yields, before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from features.layout import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Canonical tables of one source (`features.schema`), and where they come from."""

    events: pl.DataFrame
    """Grouped or not, each user's rows in the order in which they happened."""
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    item_columns: Mapping[str, Kind] = field(default_factory=dict)
    """Kind of every column of `items` but the id."""
    title_column: str = ""
    licence: str = ""
    citation: str = ""
    notes: Sequence[str] = ()
    """What a user of this source must know, such as made-up times."""
    raw_files: Mapping[str, str] = field(default_factory=dict)
    """Name -> sha256 of each file that was read: the end of the chain of hashes."""
    rejected: str = ""
    """JSON Lines of the rows that were left out because they cannot be used."""
    documents: Mapping[str, Any] = field(default_factory=dict)
    """Name -> content of JSON files that go beside the tables."""
