"""Rules of `schema.json` for values that a dataset has not seen: refused, unknown, or clipped.

A rule is of one declared column, of `item_id` or of `event` (`features.layout.ColumnRules`). The
build fits the ranges on training items, writes the rules, and encodes items that came later by
them; serving applies the same to what it is given. A build cannot refuse what has happened: where
serving would refuse a value, the build takes it as unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import InputError
from features.layout import REQUEST_RULES, ColumnRules, ItemColumn, Kind

SHOWN = 3
UNKNOWN = 1
"""The code of a value that is not known."""


def fit_rules(
    given: Mapping[str, ColumnRules],
    catalogue: pl.DataFrame,
    num_warm: int,
    kinds: Mapping[str, Kind],
    older: Mapping[str, ColumnRules],
) -> dict[str, ColumnRules]:
    """The rules of all declared columns, of `item_id` and of `event`, with the ranges filled in.

    A range that is not given is that of the first `num_warm` rows of `catalogue`, or the one that
    a dataset which grows has already (`older`). Raises InputError for a column that is not there.
    """
    known = {**REQUEST_RULES, **dict.fromkeys(kinds, ColumnRules())}
    if alien := sorted(set(given) - set(known)):
        raise InputError(
            f"rules name {alien}, there are the columns {sorted(known)}: correct the names"
        )
    rules = known | dict(given)
    for name, kind in kinds.items():
        rule = rules[name]
        if kind != "numeric":
            if rule.out_of_range != "keep" or rule.low is not None or rule.high is not None:
                raise InputError(
                    f"rules.{name} has a range, and the column is of kind {kind}: only numeric "
                    f"columns have one"
                )
            continue
        before = older.get(name, ColumnRules())
        warm = catalogue[name].head(num_warm).cast(pl.Float64).drop_nulls().drop_nans()
        low, high = (
            given_bound if given_bound is not None else older_bound
            for given_bound, older_bound in ((rule.low, before.low), (rule.high, before.high))
        )
        rules[name] = replace(
            rule,
            low=_number(warm.min()) if low is None else low,
            high=_number(warm.max()) if high is None else high,
        )
    return rules


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def outside(values: pl.Expr, rule: ColumnRules) -> pl.Expr:
    """True where a number lies outside the range of a rule; null and nan do not."""
    number = values.cast(pl.Float64)
    below = number < rule.low if rule.low is not None else pl.lit(value=False)
    above = number > rule.high if rule.high is not None else pl.lit(value=False)
    return ((below | above) & ~number.is_nan()).fill_null(value=False)


def coerce_ranges(rows: pl.DataFrame, rules: Mapping[str, ColumnRules]) -> pl.DataFrame:
    """Numbers outside their range clipped to it, or null where the rule says unknown or refuse."""
    changed = []
    for name, rule in rules.items():
        if name not in rows.columns or rule.out_of_range == "keep":
            continue
        column = pl.col(name)
        if rule.out_of_range == "clip":
            changed.append(column.cast(pl.Float64).clip(rule.low, rule.high).alias(name))
        else:
            changed.append(pl.when(~outside(column, rule)).then(column).alias(name))
    return rows.with_columns(changed)


def refused_numbers(rows: pl.DataFrame, rules: Mapping[str, ColumnRules]) -> str:
    """A sentence on the first column with numbers to be refused; empty where all may pass."""
    for name, rule in rules.items():
        if rule.out_of_range != "refuse" or name not in rows.columns:
            continue
        bad = rows.filter(outside(pl.col(name), rule))[name].to_list()
        if bad:
            return (
                f"{name} lies outside {rule.low:g} to {rule.high:g}, what training has seen, in "
                f"{len(bad)} of {len(rows)} rows (first: {bad[:SHOWN]}): the bundle's rules "
                f"refuse such rows"
            )
    return ""


def refused_values(
    rows: pl.DataFrame,
    rules: Mapping[str, ColumnRules],
    columns: Sequence[ItemColumn],
    encoded: Mapping[str, NDArray],
) -> str:
    """A sentence on the first column with values to be refused; empty where all may pass.

    encoded: the rows as `features.new_items` encodes them.
    """
    for column in columns:
        name = column.source or column.name
        rule = rules.get(name)
        if rule is None or rule.unknown_value != "refuse" or column.edges:
            continue
        if column.kind not in ("category", "categories"):
            continue
        unknown = encoded[column.name] == UNKNOWN
        bad = np.flatnonzero(unknown.reshape(len(rows), -1).any(1))
        if len(bad):
            found = rows[name].gather(bad[:SHOWN]).to_list()
            return (
                f"{name} has values that training has not seen in {len(bad)} of {len(rows)} rows "
                f"(first: {found}): the bundle's rules refuse such rows"
            )
    return ""
