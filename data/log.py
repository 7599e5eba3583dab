"""Your own log: CSV, Parquet or JSON Lines, and the tables of items and users beside it.

1. Find the files and read the mapped columns of each (`data.files`).
2. Bring every column to its type (`data.columns`) and check the rows, file by file: an error
   names the file.
3. Put the files together, in order of time, and check that no user goes back in time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from data.aside import FILE_ROW, Aside, needed
from data.columns import to_list, to_number, to_text, to_time, unify_ids
from data.config import EVENT_COLUMNS, REQUIRED_COLUMNS, ItemFile, LogFiles, UserFile
from data.files import Piece, Scan, find_files, read_files, reading, scan_file
from data.tables import Tables
from features.errors import InputError
from features.layout import Kind
from features.schema import EPOCH, FUTURE, check_events, check_items
from features.stage import file_sha256


def load(config: LogFiles) -> Tables:
    """The tables of a log; raises InputError for anything that cannot be used."""
    aside = Aside(skip=config.on_error == "skip")
    events = _read_events(config, aside)
    items = read_item_pieces(config, config.items) if config.items else []
    users = read_user_pieces(config, config.users) if config.users else []
    size = len(events)
    unified = unify_ids([*events, *users], "user_id")
    events, users = unified[:size], unified[size:]
    unified = unify_ids([*events, *items], "item_id")
    events, items = unified[:size], unified[size:]
    if "session_id" in events[0].frame.columns:
        events = unify_ids(events, "session_id")
    kinds = dict(config.items.columns) if config.items else {}
    return Tables(
        events=_join_events(config, events),
        items=_join_items(items, kinds),
        users=pl.concat([piece.frame for piece in users]) if users else None,
        item_columns=kinds,
        title_column=title_of(config.items),
        rejected=aside.lines(),
        raw_files={str(piece.path): file_sha256(piece.path) for piece in [*events, *items, *users]},
    )


def _read_events(config: LogFiles, aside: Aside) -> list[Piece]:
    paths = find_files(config.paths, "data.paths")
    pieces = []
    console = Console(stderr=True)
    hidden = not console.is_terminal or len(paths) == 1
    for path in track(paths, "reading", console=console, disable=hidden):
        scan = open_events(config, path)
        lazy = scan.lazy.with_row_index(FILE_ROW, offset=1) if aside.skip else scan.lazy
        with reading(path):
            pieces.append(Piece(path, lazy.collect(), scan.untyped))
    columns = set(pieces[0].frame.columns)
    for piece in pieces:
        if other := columns.symmetric_difference(piece.frame.columns):
            raise InputError(
                f"{piece.path} and {pieces[0].path} differ in {', '.join(sorted(other))}: "
                f"all files of a log need the same columns"
            )
        if not piece.frame.height:
            raise InputError(f"{piece.path} is empty: it has the columns, and no rows")
    converted = []
    for piece in pieces:
        frame = convert_events(config, piece.frame, piece.path, aside)
        converted.append(Piece(piece.path, frame.drop(FILE_ROW, strict=False), piece.untyped))
    return converted


def open_events(config: LogFiles, path: Path) -> Scan:
    """One file of the log, with our names for the columns that it has."""
    wanted = {name: config.columns.get(name, name) for name in EVENT_COLUMNS}
    optional = [n for n in EVENT_COLUMNS if n not in {*REQUIRED_COLUMNS, *config.columns}]
    skip = config.on_error == "skip"
    return scan_file(path, wanted, optional, config.separator, ragged=skip)


def convert_events(
    config: LogFiles, frame: pl.DataFrame, where: Path, aside: Aside
) -> pl.DataFrame:
    """Times, behaviours and values in our types; rows that cannot be used go aside."""
    frame = to_time(frame, "timestamp", config.timestamp, where, aside)
    if "event" in frame.columns:
        frame = to_text(frame, "event", where)
    else:
        frame = frame.with_columns(event=pl.lit(config.event_default))
    if "value" in frame.columns:
        frame = to_number(frame, "value", where, aside)
    if aside.skip:
        for name, (wanted, bad) in unusable().items():
            frame = aside.sift(frame, where, name, wanted, bad)
    return frame


def unusable() -> dict[str, tuple[str, pl.Expr]]:
    """Column -> what is wanted of it, and the rows without: what `check_events` refuses."""
    latest = datetime.now(UTC).replace(tzinfo=None) + FUTURE
    time, event = pl.col("timestamp"), pl.col("event")
    return {
        **needed({"user_id": "an id", "item_id": "an id"}),
        "timestamp": (
            f"a time from 1970 to {latest:%Y-%m-%d}",
            time.is_null() | (time < EPOCH) | (time > latest),
        ),
        "event": ("a behaviour", event.is_null() | (event == "")),
    }


def _join_events(config: LogFiles, pieces: list[Piece]) -> pl.DataFrame:
    """All rows, checked file by file and then, where there are several, as one log."""
    names = [n for n in EVENT_COLUMNS if n in pieces[0].frame.columns]
    frames = []
    for piece in pieces:
        frame = piece.frame.select(names)
        if config.order == "sort":
            frame = frame.with_row_index(FILE_ROW, offset=1)
            frame = frame.sort("timestamp", maintain_order=True)
        frames.append(check_events(frame, str(piece.path)).select(names))
    if len(frames) == 1:
        return frames[0]
    events = pl.concat(frames)
    if config.order == "sort":
        return events.sort("timestamp", maintain_order=True)
    return check_events(events, f"the log of {len(pieces)} files, in the order of their names")


def read_item_pieces(config: LogFiles, table: ItemFile) -> list[Piece]:
    """The files of items, their columns in our types."""
    paths = find_files(table.paths, "data.items.paths")
    wanted = {"item_id": table.item_id} | {name: name for name in table.columns}
    pieces = []
    for piece in read_files(paths, wanted, separator=config.separator):
        frame = piece.frame
        for name, kind in table.columns.items():
            match kind:
                case "text" | "category":
                    frame = to_text(frame, name, piece.path)
                case "categories" | "path":
                    frame = to_list(frame, name, table.list_separator, piece.path)
                case "numeric":
                    frame = to_number(frame, name, piece.path)
                case "timestamp":
                    frame = to_time(frame, name, config.timestamp, piece.path)
        pieces.append(Piece(piece.path, frame, piece.untyped))
    return pieces


def _join_items(pieces: list[Piece], kinds: Mapping[str, Kind]) -> pl.DataFrame | None:
    if not pieces:
        return None
    where = str(pieces[0].path) if len(pieces) == 1 else f"the {len(pieces)} files of items"
    return check_items(pl.concat([piece.frame for piece in pieces]), where, kinds)


def read_user_pieces(config: LogFiles, table: UserFile) -> list[Piece]:
    """The files of users."""
    paths = find_files(table.paths, "data.users.paths")
    wanted = {"user_id": table.user_id} | {name: name for name in table.columns}
    return read_files(paths, wanted, separator=config.separator)


def title_of(table: ItemFile | None) -> str:
    """The column to show beside an item."""
    if table is None or table.title:
        return table.title if table else ""
    return next((name for name, kind in table.columns.items() if kind == "text"), "")
