"""Frames of dated events as documents: checked in the caller's terms, encoded as in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from features.life_encode import Documents, merge_rows
from features.life_layout import MICROSECONDS, NO_BIRTH, LifeSchema, TokenField
from features.life_tokens import encode_fields
from serving.errors import RequestError

PERSON, TIME, ITEM = "user_id", "timestamp", "item_id"
DERIVED = ("birth_month", "birth_year")


@dataclass(frozen=True, slots=True)
class LifeRequest:
    """Persons in the order of the answer, and what is known of each."""

    users: pl.Series
    documents: Documents


def moment(at: datetime | date | None) -> int | None:
    """Microseconds UTC; a time without a zone is UTC, a date its midnight."""
    if at is None:
        return None
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    whole = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return int(whole.timestamp() * MICROSECONDS)


class LifeReader:
    """Reads requests for one schema."""

    def __init__(self, schema: LifeSchema, items: pl.DataFrame | None) -> None:
        self._schema, self._items = schema, items
        self._fields = [(f.name, f.by) for f in schema.fields]

    def read(
        self,
        events: pl.DataFrame,
        persons: pl.DataFrame | None = None,
        at: datetime | date | None = None,
    ) -> LifeRequest:
        """Documents of every person in `events`, then of those only in `persons`.

        events: user_id, timestamp and the columns of the schema's fields (or item_id, where they
        come from items); rows of a person in any order of time. Events at or after `at` are left
        out. persons: user_id, background columns, birth. Raises RequestError.
        """
        events = self._with_columns(self._with_ids(events, "events"))
        events = self._with_time(events, TIME, "events")
        if (limit := moment(at)) is not None:
            events = events.filter(pl.col(TIME).to_physical() < limit)
        users = self._users(events, persons)
        rows = users.select(PERSON).with_row_index("row")
        events = events.join(rows, on=PERSON, how="inner").sort("row", TIME, maintain_order=True)
        owner, stamps = events["row"].to_numpy(), events[TIME].to_physical().to_numpy()
        tokens = encode_fields(events, self._schema.fields)
        tokens, first = merge_rows(tokens, owner, stamps, self._schema.merge)
        bounds = np.searchsorted(owner[first], np.arange(len(users) + 1))
        documents = Documents(
            stamps[first],
            tokens,
            bounds[:-1],
            bounds[1:],
            encode_fields(users, self._schema.background),
            self._births(users),
        )
        return LifeRequest(users[PERSON], documents)

    def _with_ids(self, frame: pl.DataFrame, where: str) -> pl.DataFrame:
        if PERSON not in frame.columns:
            raise RequestError(f"{where} has no column {PERSON} (it has {frame.columns})")
        found, kind = frame.schema[PERSON], self._schema.raw_user_type
        if not (found.is_integer() if kind == "int" else found == pl.String):
            raise RequestError(f"{where}.{PERSON} is {found}, the bundle knows persons by {kind}")
        return frame.with_columns(pl.col(PERSON).cast(pl.Int64)) if kind == "int" else frame

    def _with_columns(self, events: pl.DataFrame) -> pl.DataFrame:
        wanted = [name for pair in self._fields for name in pair if name]
        missing = [name for name in dict.fromkeys(wanted) if name not in events.columns]
        if missing and self._items is not None and ITEM in events.columns:
            known = [name for name in missing if name in self._items.columns]
            ids = self._items.schema[ITEM]
            try:
                events = events.with_columns(pl.col(ITEM).cast(ids))
            except pl.exceptions.PolarsError as error:
                raise RequestError(f"events.{ITEM} cannot be {ids}: {error}") from error
            items = self._items.select(ITEM, *known)
            events = events.join(items, on=ITEM, how="left", maintain_order="left")
            missing = [name for name in missing if name not in known]
        if missing:
            raise RequestError(
                f"events lack {missing} (they have {events.columns}): the bundle was trained on "
                f"them; a column of nulls says that nothing is known"
            )
        for field in self._schema.fields:
            self._check_kind(events, field, "events")
        return events

    def _check_kind(self, frame: pl.DataFrame, field: TokenField, where: str) -> None:
        found = frame.schema[field.name]
        fits = {
            "numeric": found.is_numeric() or found == pl.Null,
            "category": not isinstance(found, pl.List),
            "categories": isinstance(found, pl.List),
        }
        if not fits[field.kind]:
            raise RequestError(f"{where}.{field.name} is {found}, expected {field.kind}")

    def _with_time(self, frame: pl.DataFrame, name: str, where: str) -> pl.DataFrame:
        if name not in frame.columns:
            raise RequestError(f"{where} has no column {name} (it has {frame.columns})")
        found, column = frame.schema[name], pl.col(name)
        if isinstance(found, pl.Datetime):
            if found.time_zone:
                column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        elif found not in (pl.Date, pl.Null):
            raise RequestError(f"{where}.{name} is {found}, expected a time or a date")
        frame = frame.with_columns(column.cast(pl.Datetime("us")))
        if where == "events" and (lost := frame[name].null_count()):
            raise RequestError(f"{lost} of {len(frame)} events have no {name}")
        return frame

    def _users(self, events: pl.DataFrame, persons: pl.DataFrame | None) -> pl.DataFrame:
        """A row a person with every column that background and birth need."""
        users = events.select(pl.col(PERSON).unique(maintain_order=True))
        wanted = self._person_columns()
        if persons is not None:
            persons = self._with_ids(persons, "persons")
            if persons[PERSON].is_duplicated().any():
                raise RequestError("persons holds a person twice: keep one row each")
            if absent := [name for name in wanted if name not in persons.columns]:
                raise RequestError(f"persons lacks {absent} (it has {persons.columns})")
            known = users.join(persons, on=PERSON, how="left", maintain_order="left")
            others = persons.join(users, on=PERSON, how="anti", maintain_order="left")
            users = pl.concat([known, others.select(known.columns)])
        else:
            users = users.with_columns(pl.lit(None).alias(name) for name in wanted)
        if self._schema.birth:
            users = self._with_time(users, self._schema.birth, "persons")
        if self._schema.birth_tokens:
            birth = pl.col(self._schema.birth)
            users = users.with_columns(birth_month=birth.dt.month(), birth_year=birth.dt.year())
        return users

    def _person_columns(self) -> Sequence[str]:
        derived = DERIVED if self._schema.birth_tokens else ()
        names = [f.name for f in self._schema.background if f.name not in derived]
        return [*names, self._schema.birth] if self._schema.birth else names

    def _births(self, users: pl.DataFrame) -> np.ndarray:
        if not self._schema.birth:
            return np.full(len(users), NO_BIRTH)
        return users[self._schema.birth].to_physical().fill_null(NO_BIRTH).to_numpy()
