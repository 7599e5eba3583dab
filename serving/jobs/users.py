"""Every user once: the one promise that no part can check alone."""

from pathlib import Path

import polars as pl

from features.errors import InputError

USERS_AT_ONCE = 4_000_000
"""User ids compared in memory at once."""


def check_users_once(directory: Path) -> None:
    """Raise InputError where a user stands in several parts; memory does not grow with users."""
    parts = pl.scan_parquet(directory / "part-*.parquet", include_file_paths="file")
    total = parts.select(pl.len()).collect(engine="streaming").item()
    buckets = -(-total // USERS_AT_ONCE)
    for bucket in range(buckets):
        mine = parts.filter(pl.col("user_id").hash(seed=1) % buckets == bucket)
        where = mine.group_by("user_id").agg(pl.col("file").unique())
        twice = where.filter(pl.col("file").list.len() > 1).collect(engine="streaming")
        if len(twice):
            user, files = twice.sort("user_id").row(0)
            names = ", ".join(sorted(Path(file).name for file in files))
            raise InputError(
                f"{len(twice)} users stand in several shards, the first is {user!r} in {names}: "
                f"put all rows of a user into one shard"
            )
