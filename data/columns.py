"""A column of a foreign table -> the one width and unit that `features.schema` asks for.

Every function takes a frame, the column's name and `where` (the file, for the error), and returns
the frame with that column converted, or raises InputError. Nulls stay: the schema judges them.
"""

from collections.abc import Sequence

import polars as pl

from data.aside import Aside
from data.files import Piece, Scan, reading
from features.errors import InputError

WHOLE = r"^(0|-?[1-9][0-9]{0,17})$"
"""A text that an Int64 gives back unchanged: 007 and 1.0 are not."""

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
STRICT = Aside()
"""Bad values are errors."""
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")


def unify_ids(pieces: Sequence[Piece], name: str) -> list[Piece]:
    """Ids of all pieces as Int64 if all can be, else as String.

    Whole numbers in a CSV file become Int64; a typed text of digits stays a text, and so does
    everything beside it.
    """
    for piece in pieces:
        found = piece.frame.schema[name]
        if not (found.is_integer() or found in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
            raise InputError(
                f"{piece.path} has {name} of type {found}, expected whole numbers or texts"
            )
    whole = pl.col(name).str.contains(WHOLE).all()
    numbers = all(
        piece.frame.schema[name].is_integer()
        or piece.frame.schema[name] == pl.Null
        or (piece.untyped and piece.frame.select(whole).item())
        for piece in pieces
    )
    to = pl.Int64 if numbers else pl.String
    unified = []
    for piece in pieces:
        try:
            frame = piece.frame.with_columns(pl.col(name).cast(to))
        except pl.exceptions.InvalidOperationError as error:
            raise InputError(f"{piece.path} has {name} beyond 64 bits: use texts") from error
        unified.append(Piece(piece.path, frame, piece.untyped))
    return unified


def id_type(name: str, scans: Sequence[Scan], beside: Sequence[Piece]) -> pl.DataType:
    """What `unify_ids` would make of files too large to be held: CSV files are looked through."""
    whole = pl.col(name).str.contains(WHOLE).all()
    opened = [(s.path, s.lazy, s.untyped) for s in scans]
    opened += [(p.path, p.frame.lazy(), p.untyped) for p in beside]
    for path, lazy, untyped in opened:
        found = lazy.collect_schema()[name]
        if found.is_integer() or found == pl.Null:
            continue
        if found not in (pl.String, pl.Categorical):
            raise InputError(f"{path} has {name} of type {found}, expected whole numbers or texts")
        with reading(path):
            if not untyped or not lazy.select(whole).collect(engine="streaming").item():
                return pl.String()
    return pl.Int64()


def to_time(
    frame: pl.DataFrame, name: str, unit: str, where: object, aside: Aside = STRICT
) -> pl.DataFrame:
    """Datetime in microseconds, UTC without a zone. `unit`: s, ms, us or iso."""
    found = frame.schema[name]
    column = pl.col(name)
    if isinstance(found, pl.Datetime):
        naive = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return frame.with_columns((naive if found.time_zone else column).dt.cast_time_unit("us"))
    if found == pl.Date:
        return frame.with_columns(column.cast(pl.Datetime("us")))
    if unit == "iso" and found == pl.String:
        return _converted(frame, name, _iso(column), where, ("an ISO 8601 time", aside))
    if unit != "iso" and (found.is_numeric() or found == pl.String):
        number = column.cast(pl.Int64, strict=False) if found == pl.String else column
        scale = 1_000_000 // PER_SECOND[unit]
        if found.is_float():
            since = (column * scale).round().cast(pl.Int64, strict=False)
        else:
            since = number.cast(pl.Int64, strict=False) * scale
        if found == pl.String:  # a fraction of a second, where the text is no whole number
            fraction = (column.cast(pl.Float64, strict=False) * scale).round()
            since = pl.coalesce(since, fraction.cast(pl.Int64, strict=False))
        time = pl.from_epoch(since, time_unit="us").cast(pl.Datetime("us"))
        return _converted(frame, name, time, where, (f"a number of {unit} since 1970", aside))
    if found == pl.Null:
        return frame.with_columns(column.cast(pl.Datetime("us")))
    raise InputError(
        f"{where} has {name} of type {found}, expected what timestamp = {unit!r} says: "
        f"set timestamp to 's', 'ms' or 'us' for numbers, to 'iso' for texts"
    )


def _iso(column: pl.Expr) -> pl.Expr:
    text = column.str.strip_chars().str.replace("T", " ", literal=True).str.replace("Z$", "+0000")
    plain = [text.str.to_datetime(f, time_unit="us", strict=False) for f in ISO_FORMATS]
    zoned = [
        text.str.to_datetime(f, time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(
            None
        )
        for f in ZONED_FORMATS
    ]
    return pl.coalesce(*plain, *zoned)


def to_number(frame: pl.DataFrame, name: str, where: object, aside: Aside = STRICT) -> pl.DataFrame:
    """Float64."""
    found = frame.schema[name]
    if not (found.is_numeric() or found in (pl.String, pl.Boolean, pl.Null)):
        raise InputError(f"{where} has {name} of type {found}, expected numbers")
    number = pl.col(name).cast(pl.Float64, strict=False)
    return _converted(frame, name, number, where, ("a number", aside))


def to_text(frame: pl.DataFrame, name: str, where: object) -> pl.DataFrame:
    """String; whole numbers are written out."""
    found = frame.schema[name]
    if not (found.is_integer() or found in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(f"{where} has {name} of type {found}, expected texts")
    return frame.with_columns(pl.col(name).cast(pl.String))


def to_list(frame: pl.DataFrame, name: str, separator: str, where: object) -> pl.DataFrame:
    """List(String); a text is cut at `separator`."""
    found = frame.schema[name]
    if found == pl.String:
        return frame.with_columns(pl.col(name).str.split(separator))
    if isinstance(found, pl.List):
        return frame.with_columns(pl.col(name).cast(pl.List(pl.String)))
    raise InputError(f"{where} has {name} of type {found}, expected lists or texts with separators")


def _converted(
    frame: pl.DataFrame,
    name: str,
    converted: pl.Expr,
    where: object,
    otherwise: tuple[str, Aside],
) -> pl.DataFrame:
    """Replace the column; a row whose value is lost goes where `otherwise` says."""
    wanted, aside = otherwise
    lost = converted.is_null() & pl.col(name).is_not_null()
    return aside.sift(frame, where, name, wanted, lost).with_columns(converted.alias(name))
