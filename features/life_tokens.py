"""Values of events and persons as tokens: fitted on training people, applied to anybody."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import InputError
from features.life_config import LifeField
from features.life_layout import PAD, UNKNOWN, TokenField

PERSON = "user_id"
NUMBERS = (pl.Float32, pl.Float64)


def as_text(column: pl.Series) -> pl.Series:
    """Category values as text; a whole number has no decimal point, nan is missing."""
    if column.dtype in NUMBERS:
        column = column.fill_nan(None)
        whole = (column.drop_nulls() % 1 == 0).all()
        column = column.cast(pl.Int64) if whole else column
    return column.cast(pl.String)


def as_numbers(column: pl.Series) -> NDArray[np.float64]:
    """Numeric values; nan where missing or infinite."""
    values = column.cast(pl.Float64).to_numpy().astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def require(frame: pl.DataFrame, fields: Sequence[LifeField], where: str) -> None:
    """Raise InputError unless `frame` has a column of a fitting type for each field."""
    for field in fields:
        for name in filter(None, (field.name, field.by)):
            if name not in frame.columns:
                raise InputError(
                    f"{where} has no column {name} (it has: {', '.join(frame.columns)}): name "
                    f"another in [life], or load it with the data"
                )
        found = frame.schema[field.name]
        is_list, is_number = isinstance(found, pl.List), found.is_numeric()
        if (field.kind == "categories") != is_list or (field.kind == "numeric" and not is_number):
            raise InputError(
                f"{where} has column {field.name} of type {found}, which kind={field.kind!r} of "
                f"[life] does not fit: numbers are numeric or category, lists categories"
            )


def fit_field(frame: pl.DataFrame, field: LifeField, first: int) -> TokenField:
    """The tokens of one column, from rows of training people: `user_id` and the column."""
    if field.kind == "numeric":
        return _fit_numeric(frame, field, first)
    rows = frame.select(PERSON, value=frame[field.name])
    if field.kind == "categories":
        rows = rows.explode("value")
    rows = rows.with_columns(value=as_text(rows["value"])).drop_nulls("value")
    people = rows.group_by("value").agg(people=pl.col(PERSON).n_unique())
    known = people.filter(pl.col("people") >= field.min_people)["value"].sort()
    return TokenField(
        name=field.name,
        kind=field.kind,
        first=first,
        values=tuple(known.to_list()),
        width=field.width if field.kind == "categories" else 1,
    )


def _fit_numeric(frame: pl.DataFrame, field: LifeField, first: int) -> TokenField:
    groups = as_text(frame[field.by]) if field.by else pl.repeat("", len(frame), eager=True)
    rows = pl.DataFrame(
        {PERSON: frame[PERSON], "group": groups, "value": as_numbers(frame[field.name])}
    )
    rows = rows.drop_nulls("group").drop_nans("value")
    parts = rows.partition_by("group", as_dict=True)
    shares = np.linspace(0, 1, field.bins + 1)[1:-1]
    edges: dict[str, tuple[float, ...]] = {}
    for (group,), part in sorted(parts.items()):
        if part[PERSON].n_unique() < field.min_people:
            continue
        values = part["value"].to_numpy()
        inner = np.unique(np.quantile(values, shares, method="higher"))
        edges[str(group)] = tuple(float(x) for x in inner[inner > values.min()])
    return TokenField(
        name=field.name,
        kind="numeric",
        first=first,
        by=field.by,
        groups=tuple(edges),
        edges=tuple(edges.values()),
    )


def field_size(field: TokenField) -> int:
    """Number of tokens of a fitted field."""
    if field.kind == "numeric":
        return sum(len(inner) + 1 for inner in field.edges)
    return len(field.values)


def fit_fields(
    frame: pl.DataFrame, fields: Sequence[LifeField], first: int
) -> tuple[TokenField, ...]:
    """The tokens of several columns, one block after the other from `first` on."""
    fitted = []
    for field in fields:
        fitted.append(fit_field(frame, field, first))
        first += field_size(fitted[-1])
    return tuple(fitted)


def encode_fields(frame: pl.DataFrame, fields: Sequence[TokenField]) -> NDArray[np.int32]:
    """Tokens (rows, F): 0 where the value is missing, the unknown token where it is not known."""
    blocks = [_encode_field(frame, field) for field in fields]
    return np.concatenate([np.zeros((len(frame), 0), np.int32), *blocks], axis=1)


def _encode_field(frame: pl.DataFrame, field: TokenField) -> NDArray[np.int32]:
    column = frame[field.name]
    if field.kind == "numeric":
        return _encode_numeric(frame, field)[:, None]
    if field.kind == "category":
        return _encode_values(as_text(column), field)[:, None]
    lists = column.to_frame("value").with_row_index("row").explode("value").drop_nulls("value")
    lists = lists.with_columns(place=pl.int_range(pl.len()).over("row"))
    lists = lists.filter(pl.col("place") < field.width)
    tokens = np.zeros((len(frame), field.width), np.int32)
    codes = _encode_values(as_text(lists["value"]), field)
    tokens[lists["row"].to_numpy(), lists["place"].to_numpy()] = codes
    return tokens


def _encode_values(column: pl.Series, field: TokenField) -> NDArray[np.int32]:
    if not len(column) or not field.values:
        return np.where(column.is_null().to_numpy(), PAD, UNKNOWN).astype(np.int32)
    codes = pl.int_range(field.first, field.first + len(field.values), dtype=pl.Int32, eager=True)
    known = pl.Series(field.values, dtype=pl.String)
    found = column.replace_strict(known, codes, default=UNKNOWN, return_dtype=pl.Int32)
    return np.where(column.is_null().to_numpy(), PAD, found.to_numpy()).astype(np.int32)


def group_numbers(frame: pl.DataFrame, field: TokenField) -> NDArray[np.int64]:
    """Which of the field's groups each row belongs to; -1 where none that has edges."""
    groups = as_text(frame[field.by]) if field.by else pl.repeat("", len(frame), eager=True)
    if not field.groups or not len(frame):
        return np.full(len(frame), -1)
    known = pl.Series(field.groups, dtype=pl.String)
    codes = pl.int_range(len(known), dtype=pl.Int64, eager=True)
    found = groups.replace_strict(known, codes, default=-1, return_dtype=pl.Int64)
    return found.fill_null(-1).to_numpy()


def _encode_numeric(frame: pl.DataFrame, field: TokenField) -> NDArray[np.int32]:
    values, number = as_numbers(frame[field.name]), group_numbers(frame, field)
    tokens = np.zeros(len(frame), np.int32)
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(len(field.groups) + 1))
    first = field.first
    for group, inner in enumerate(field.edges):
        rows = order[bounds[group] : bounds[group + 1]]
        rows = rows[~np.isnan(values[rows])]
        tokens[rows] = first + np.searchsorted(np.array(inner), values[rows], side="right")
        first += len(inner) + 1
    return tokens
