"""Where the Parquet files of a public study lie, and what they hash to."""

import os
from pathlib import Path

from features.errors import InputError
from features.stage import file_sha256

YEAR_DAYS = 365.25


def study_folder(name: str, *tables: str) -> Path:
    """The folder below RECSYS_DATA; raises InputError when a table is not there."""
    root = os.environ.get("RECSYS_DATA", "")
    folder = Path(root) / name
    missing = [table for table in tables if not (folder / f"{table}.parquet").is_file()]
    if not root or missing:
        raise InputError(
            f"{folder if root else name} is not there: set RECSYS_DATA to the folder that holds "
            f"{name}/ with {', '.join(f'{table}.parquet' for table in tables)}"
        )
    return folder


def table_hashes(folder: Path, *tables: str) -> dict[str, str]:
    """sha256 of each table, by `folder/file`."""
    names = [f"{table}.parquet" for table in tables]
    return {f"{folder.name}/{name}": file_sha256(folder / name) for name in names}
