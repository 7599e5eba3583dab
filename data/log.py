"""Your own log: CSV, Parquet or JSON Lines, and the tables of items and users beside it.

1. Find the files and read the mapped columns of each (`data.files`).
2. Bring every column to its type (`data.columns`) and check the rows, file by file: an error
   names the file.
3. Put the files together, in order of time, and check that no user goes back in time.
"""

from collections.abc import Mapping

import polars as pl

from data.columns import to_list, to_number, to_text, to_time, unify_ids
from data.config import EVENT_COLUMNS, REQUIRED_COLUMNS, ItemFile, LogFiles, UserFile
from data.files import Piece, find_files, read_files
from data.tables import Tables
from features.errors import InputError
from features.layout import Kind
from features.schema import check_events, check_items
from features.stage import file_sha256

FILE_ROW = "file_row"
"""The row's number in its file, kept while `order = "sort"` has rows out of their place."""


def load(config: LogFiles) -> Tables:
    """The tables of a log; raises InputError for anything that cannot be used."""
    events = _read_events(config)
    items = _read_items(config, config.items) if config.items else []
    users = _read_users(config, config.users) if config.users else []
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
        title_column=_title(config.items),
        raw_files={str(piece.path): file_sha256(piece.path) for piece in [*events, *items, *users]},
    )


def _read_events(config: LogFiles) -> list[Piece]:
    paths = find_files(config.paths, "data.paths")
    wanted = {name: config.columns.get(name, name) for name in EVENT_COLUMNS}
    optional = [n for n in EVENT_COLUMNS if n not in {*REQUIRED_COLUMNS, *config.columns}]
    pieces = read_files(paths, wanted, optional=optional, separator=config.separator)
    columns = set(pieces[0].frame.columns)
    converted = []
    for piece in pieces:
        path, frame = piece.path, piece.frame
        if other := columns.symmetric_difference(frame.columns):
            raise InputError(
                f"{path} and {pieces[0].path} differ in {', '.join(sorted(other))}: "
                f"all files of a log need the same columns"
            )
        if not frame.height:
            raise InputError(f"{path} is empty: it has the columns, and no rows")
        frame = to_time(frame, "timestamp", config.timestamp, path)
        if "event" in columns:
            frame = to_text(frame, "event", path)
        else:
            frame = frame.with_columns(event=pl.lit(config.event_default))
        if "value" in columns:
            frame = to_number(frame, "value", path)
        converted.append(Piece(path, frame, piece.untyped))
    return converted


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


def _read_items(config: LogFiles, table: ItemFile) -> list[Piece]:
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


def _read_users(config: LogFiles, table: UserFile) -> list[Piece]:
    paths = find_files(table.paths, "data.users.paths")
    wanted = {"user_id": table.user_id} | {name: name for name in table.columns}
    return read_files(paths, wanted, separator=config.separator)


def _title(table: ItemFile | None) -> str:
    if table is None or table.title:
        return table.title if table else ""
    return next((name for name, kind in table.columns.items() if kind == "text"), "")
