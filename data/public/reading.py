"""Follows a recipe: finds the folder, reads the tables, brings them to their types.

Where the data is sought, the first that exists: `$RECSYS_DATA/<folder>` of each layout; or, where
RECSYS_DATA is not set and the recipe names an archive, that archive, downloaded and unpacked.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import polars as pl

from data.config import PublicData
from data.download import download
from data.public import RECIPES
from data.public.formats import by_suffix
from data.public.recipe import Archive, Layout, Recipe, Table
from data.tables import Tables
from features.errors import InputError
from features.layout import Kind
from features.stage import file_sha256, lock, partial_path, publish

TYPES: Mapping[str, pl.DataType] = {
    "timestamp": pl.Datetime("us"),
    "event": pl.String(),
    "value": pl.Float64(),
}


def load(config: PublicData) -> Tables:
    """The tables of a public data set; raises InputError when it is not here, or not as expected.

    Rows without user, item or time are not events and are left out.
    """
    recipe = RECIPES[config.source]
    layout, folder = _find(recipe, config)
    hashes: dict[str, str] = {}
    try:
        events = pl.concat(
            [_open(table, folder, config.part, hashes) for table in layout.events], how="diagonal"
        )
        events = _typed(events.drop_nulls(["user_id", "item_id", "timestamp"]).collect())
        events = events.sort("user_id", "timestamp", maintain_order=True)
        items = _optional(layout.items, folder, config.part, hashes)
        users = _optional(layout.users, folder, config.part, hashes)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder} is not as {config.source} is expected ({reason}): see docs/datasets.md"
        ) from error
    kinds: dict[str, Kind] = {}
    if items is not None:
        items = items.drop_nulls("item_id").unique("item_id", keep="first", maintain_order=True)
        kinds = {name: recipe.item_columns[name] for name in items.columns if name != "item_id"}
    if users is not None:
        users = users.unique("user_id", keep="first", maintain_order=True)
    return Tables(
        events=events,
        items=items,
        users=users,
        item_columns=kinds,
        title_column=recipe.title if recipe.title in kinds else "",
        licence=recipe.licence,
        citation=recipe.citation,
        notes=recipe.notes,
        raw_files=hashes,
    )


def _find(recipe: Recipe, config: PublicData) -> tuple[Layout, Path]:
    layouts = [layout for layout in recipe.layouts if layout.part in ("", config.part)]
    if any("{part}" in _places(layout) for layout in layouts) and not config.part:
        raise InputError(
            f"source {config.source!r} has several parts: name one, for instance part = 'beauty' "
            f"(docs/datasets.md lists them)"
        )
    data = os.environ.get("RECSYS_DATA")
    if not data:
        if recipe.archive is None:
            raise InputError(
                f"source {config.source!r} cannot be downloaded without asking: get it from its "
                f"publisher (docs/datasets.md) and set RECSYS_DATA to the folder that holds "
                f"{_named(layouts, config)}"
            )
        layout = layouts[0]
        return layout, _fetched(recipe.archive, layout, Path(config.cache).expanduser())
    for layout in layouts:
        folder = Path(data).expanduser() / layout.folder.format(part=config.part)
        if folder.is_dir() and _present(layout.events[0], folder, config.part):
            return layout, folder
    raise InputError(
        f"RECSYS_DATA={data} holds no {_named(layouts, config)} for source {config.source!r}: "
        f"put the files there as docs/datasets.md says"
    )


def _places(layout: Layout) -> str:
    return layout.folder + "".join(name for table in layout.events for name in table.files)


def _named(layouts: list[Layout], config: PublicData) -> str:
    places = []
    for layout in layouts:
        folder = layout.folder.format(part=config.part)
        places.append(f"{folder}/{layout.events[0].files[0].format(part=config.part)}")
    return " or ".join(places)


def _present(table: Table, folder: Path, part: str) -> list[Path]:
    return [path for glob in table.files for path in sorted(folder.glob(glob.format(part=part)))]


def _fetched(archive: Archive, layout: Layout, cache: Path) -> Path:
    """The unpacked archive below `cache`; downloaded, checked and unpacked when it is not there."""
    folder = cache / layout.folder
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    packed = download(archive.url, cache / archive.url.rsplit("/", 1)[1], md5=archive.md5)
    with lock(folder):
        partial = partial_path(folder)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with ZipFile(packed) as content:
                content.extractall(partial)
        except BadZipFile as error:
            raise InputError(f"{packed} is no archive ({error}): delete it") from error
        publish(partial / layout.folder, folder)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _open(table: Table, folder: Path, part: str, hashes: dict[str, str]) -> pl.LazyFrame:
    """One plan over the files of a table, with our columns; notes the hash of each file."""
    paths = _present(table, folder, part)
    if not paths:
        raise InputError(f"{folder} has no {table.files[0].format(part=part)}")
    for path in paths:
        hashes[path.relative_to(folder.parent).as_posix()] = file_sha256(path)
    read = table.read or by_suffix
    frame = pl.concat([read(path) for path in paths], how="vertical_relaxed")
    if table.then is not None:
        frame = table.then(frame)
    return frame.select(**table.columns)


def _optional(
    table: Table | None, folder: Path, part: str, hashes: dict[str, str]
) -> pl.DataFrame | None:
    """A table that need not be there: the log alone is a data set too."""
    if table is None or not _present(table, folder, part):
        return None
    return _typed(_open(table, folder, part, hashes).collect())


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    """The widths and units of `features.schema`."""
    casts: dict[Any, Any] = {name: kind for name, kind in TYPES.items() if name in frame.columns}
    for name in ("user_id", "item_id", "session_id"):
        if name in frame.columns and frame.schema[name].is_integer():
            casts[name] = pl.Int64()
    for name, kind in frame.schema.items():
        if kind in (pl.Categorical, pl.Enum):
            casts[name] = pl.String()
    return frame.cast(casts)
