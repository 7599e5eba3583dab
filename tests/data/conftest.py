"""Files of public data sets below a RECSYS_DATA of the test's own."""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.config import PublicData
from data.public import reading
from data.tables import Tables
from features.schema import check_events, check_items

Files = Mapping[str, str | pl.DataFrame]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files], None]:
    """Write files, packed or as Parquet by their names, where RECSYS_DATA then points."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))

    def write(files: Files) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path)
            elif path.suffix == ".gz":
                path.write_bytes(gzip.compress(content.encode()))
            else:
                path.write_text(content)

    return write


@pytest.fixture
def load_public() -> Callable[..., Tables]:
    """Load a public data set and check its tables."""

    def load(source: Any, part: str = "") -> Tables:
        tables = reading.load(PublicData(source=source, part=part))
        check_events(tables.events, source)
        if tables.items is not None:
            check_items(tables.items, source, tables.item_columns)
        return tables

    return load


@pytest.fixture
def check_published(
    put: Callable[[Files], None], load_public: Callable[..., Tables]
) -> Callable[..., None]:
    """Load `files` and compare the first event, and an item where one is expected."""

    def check(source: str, part: str, files: Files, expected: list[tuple]) -> None:
        put(files)
        tables = load_public(source, part)
        event, *item = expected
        found = tables.events.select("user_id", "item_id", "timestamp", "event").rows()
        assert found[0] == event
        assert set(tables.raw_files) <= set(files)
        if item:
            assert tables.items is not None
            assert item[0] in tables.items.rows()
            assert list(tables.item_columns) == tables.items.columns[1:]
        else:
            assert tables.items is None

    return check
