"""What has changed between two datasets: their schemas, and the distribution of every column.

PSI is that of `features.stability`, over tenths of the older numbers, or over the values.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from features.errors import InputError
from features.stability import FEW, MUCH, psi, psi_of_numbers
from features.store import Dataset

NEW_SHARE = 0.05
"""Share of new values from which a column is at least `some`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """How one column has changed."""

    name: str
    psi: float
    """0 where either has no value."""
    new_share: float
    """Share of the newer rows whose value the older ones never had."""
    new_values: tuple[str, ...]
    """The most frequent of them."""
    null_before: float
    null_now: float

    @property
    def verdict(self) -> Literal["little", "some", "much"]:
        """In a word."""
        worst = max(self.psi, abs(self.null_now - self.null_before))
        if worst >= MUCH:
            return "much"
        return "some" if worst >= FEW or self.new_share >= NEW_SHARE else "little"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All that has changed."""

    before: str
    now: str
    schema: Mapping[str, tuple[str, str]]
    """What the schemas say differently: name -> (then, now)."""
    columns: tuple[ColumnDrift, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        columns = [asdict(column) | {"verdict": column.verdict} for column in self.columns]
        schema = {name: list(pair) for name, pair in self.schema.items()}
        return {"before": self.before, "now": self.now, "schema": schema, "columns": columns}


def column_drift(name: str, before: pl.Series, now: pl.Series) -> ColumnDrift:
    """Compare two columns of one meaning: numbers by tenths, everything else by value."""
    lists = isinstance(before.dtype, pl.List)
    nulls = [float(s.is_null().mean() or 0.0) for s in (before, now)]  # pyright: ignore
    older, newer = ((s.explode() if lists else s).drop_nulls() for s in (before, now))
    if older.dtype.is_float():
        older, newer = older.drop_nans(), newer.drop_nans()
        return ColumnDrift(
            name=name,
            psi=psi_of_numbers(older.to_numpy(), newer.to_numpy()) or 0.0,
            new_share=0.0,
            new_values=(),
            null_before=nulls[0],
            null_now=nulls[1],
        )
    tables = [s.cast(pl.String).alias("v").value_counts(name="n") for s in (older, newer)]
    both = tables[0].join(tables[1], on="v", how="full", coalesce=True).fill_null(0)
    fresh = both.filter(pl.col("n") == 0).sort("n_right", "v", descending=[True, False])
    known = both.filter(pl.col("n") > 0)
    return ColumnDrift(
        name=name,
        psi=psi(known["n"].to_numpy(), known["n_right"].to_numpy()) or 0.0,
        new_share=float(fresh["n_right"].sum()) / max(len(newer), 1),
        new_values=tuple(fresh["v"].head(5)),
        null_before=nulls[0],
        null_now=nulls[1],
    )


def compare_datasets(before: Dataset, now: Dataset) -> Drift:
    """Schemas, items as they are chosen (a row an event), behaviours, hours, history lengths."""
    then, new = asdict(before.schema), asdict(now.schema)
    different = {
        name: (str(then[name]), str(new[name])) for name in then if then[name] != new[name]
    }
    pairs = [(name, _column(before, name), _column(now, name)) for name in ("event", "hour")]
    pairs.append(("events a user", _lengths(before), _lengths(now)))
    pairs.append(("item_id", _items(before, "item_id"), _items(now, "item_id")))
    names = _described(before) & _described(now)
    pairs += [(f"item {n}", _items(before, n), _items(now, n)) for n in sorted(names)]
    columns = tuple(column_drift(name, *two) for name, *two in pairs)
    return Drift(before=str(before.path), now=str(now.path), schema=different, columns=columns)


def compare_requests(before: Dataset, requests: pl.DataFrame) -> Drift:
    """The dataset beside served requests: a frame of `item_id`, and `event`, `timestamp` if known.

    A row is an event of a history that was sent. Raises InputError without `item_id`.
    """
    if "item_id" not in requests.columns:
        raise InputError(f"requests have {requests.columns}, expected item_id, event, timestamp")
    pairs = [("item_id", _items(before, "item_id"), requests["item_id"])]
    if "event" in requests.columns:
        pairs.append(("event", _column(before, "event"), requests["event"]))
    if requests.schema.get("timestamp") == pl.Datetime("us"):
        pairs.append(("hour", _column(before, "hour"), requests["timestamp"].dt.hour()))
    columns = tuple(column_drift(*pair) for pair in pairs)
    return Drift(before=str(before.path), now="requests", schema={}, columns=columns)


def _column(data: Dataset, name: str) -> pl.Series:
    if name == "hour":
        return pl.Series(data.timestamps // 3_600_000_000 % 24)
    names = pl.Series(["", *data.schema.event_types])
    return names.gather(pl.Series(data.events.astype(np.int64)))


def _lengths(data: Dataset) -> pl.Series:
    return pl.Series((data.cuts["test_end"] - data.cuts["start"]).astype(np.float64))


def _described(data: Dataset) -> set[str]:
    return set(_catalogue(data).collect_schema().names()) - {"item_id"}


def _catalogue(data: Dataset) -> pl.LazyFrame:
    return pl.scan_parquet(data.path / "catalogue.parquet")


def _items(data: Dataset, name: str) -> pl.Series:
    """A column of the catalogue, a row an event."""
    values = _catalogue(data).select(name).collect()[name]
    values = values.cast(pl.Float64) if values.dtype.is_numeric() and name != "item_id" else values
    return values.gather(pl.Series(data.items.astype(np.int64) - 1))
