"""Encoded lives as the Arrow files of `features.life_layout`."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features import life_layout as layout
from features.cohorts import AT, PERSON, TIME
from features.layout import vocabulary_file
from features.life_encode import merge_rows
from features.life_layout import LifeSchema
from features.life_tokens import as_numbers, encode_fields, group_numbers
from features.store import write_table


def write_arrays(
    directory: Path,
    events: pl.DataFrame,
    users: pl.DataFrame,
    cases: pl.DataFrame,
    schema: LifeSchema,
) -> None:
    """The Arrow files. users and events are sorted by person; events that say nothing are left."""
    row_of = users.select(PERSON).with_row_index("row")
    joined = events.select(PERSON).join(row_of, on=PERSON, how="left", maintain_order="left")
    owner, moments = joined["row"].to_numpy(), events[TIME].to_physical().to_numpy()
    write_values(directory, events, owner, schema)
    tokens, first = merge_rows(encode_fields(events, schema.fields), owner, moments, schema.merge)
    owner, stamps = owner[first], moments[first]
    write_table(directory / layout.EVENTS, {"timestamp": stamps, "tokens": tokens})
    bounds = np.searchsorted(owner, np.arange(len(users) + 1))
    background = encode_fields(users, schema.background) if schema.background else None
    birth = np.full(len(users), layout.NO_BIRTH)
    if schema.birth:
        found = users[schema.birth].cast(pl.Datetime("us")).to_physical()
        birth = found.fill_null(layout.NO_BIRTH).to_numpy()
    shown = background if background is not None else np.zeros((len(users), 1), np.int32)
    write_table(
        directory / layout.USERS,
        {"start": bounds[:-1], "end": bounds[1:], "background": shown, "birth": birth},
    )
    joined = cases.join(
        users.select(PERSON, "split").with_row_index("row"),
        on=PERSON,
        how="left",
        maintain_order="left",
    )
    at, user = joined[AT].to_physical().to_numpy(), joined["row"].to_numpy().astype(np.int64)
    cut = np.array(
        [
            bounds[u] + np.searchsorted(stamps[bounds[u] : bounds[u + 1]], t)
            for u, t in zip(user, at, strict=True)
        ],
        np.int64,
    )
    labels = joined.select(o.name for o in schema.outcomes).to_numpy().astype(np.float32)
    write_table(
        directory / layout.CASES,
        {
            "user": user,
            "at": at,
            "cut": cut,
            "split": joined["split"].to_numpy(),
            "labels": labels,
        },
    )
    ids = (
        users[PERSON].to_arrow().cast(pa.string() if schema.raw_user_type == "str" else pa.int64())
    )
    write_table(directory / vocabulary_file("user"), {"id": ids})


def write_values(
    directory: Path, events: pl.DataFrame, owner: NDArray[np.uint32], schema: LifeSchema
) -> None:
    """The numbers of numeric fields, a row each."""
    kept, series, numbers, first = [], [], [], 0
    for field in (field for field in schema.fields if field.kind == "numeric"):
        values, group = as_numbers(events[field.name]), group_numbers(events, field)
        rows = np.flatnonzero(~np.isnan(values) & (group >= 0))
        kept.append(rows)
        series.append(group[rows] + first)
        numbers.append(values[rows])
        first += len(field.groups)
    rows = np.concatenate([np.zeros(0, np.int64), *kept])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    write_table(
        directory / layout.VALUES,
        {
            "user": owner[rows].astype(np.int32),
            "timestamp": events[TIME].to_physical().to_numpy()[rows],
            "series": np.concatenate([np.zeros(0), *series])[order].astype(np.int32),
            "value": np.concatenate([np.zeros(0), *numbers])[order].astype(np.float32),
        },
    )
