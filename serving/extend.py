"""A sealed bundle and rows of new items -> another sealed bundle, without training."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.errors import InputError
from serving.bundle import open_bundle, seal, write_bundle
from serving.golden import answer_golden
from serving.parts import Parts
from serving.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Extended:
    """What was added, and what of the file was not used."""

    added: int
    num_items: int
    ignored: tuple[str, ...]
    """Columns of the file that the bundle does not know."""


def add_items(bundle: Path, items: Path, out: Path) -> Extended:
    """Write to `out`, which must not exist, the bundle with the items of a Parquet file added.

    The new manifest names the old one as its parent, and holds new answers to the golden requests.
    Raises InputError for an unreadable file, RequestError for unusable rows, BundleError.
    """
    base = open_bundle(bundle)
    try:
        rows = pl.read_parquet(items)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{items} is not a readable Parquet file: {error}") from error
    before = Parts.load(base)
    parts = before.with_items(rows)
    with write_bundle(out) as directory:
        for name in base.manifest.files:
            shutil.copyfile(base.path / name, directory / name)
        parts.write(directory)
        golden = answer_golden(Recommender(parts), len(base.manifest.golden))
        update = {"parent": base.sha256, "golden": golden}
        seal(directory, parts.manifest.model_copy(update=update))
        Recommender.load(directory).check_golden()
    ignored = tuple(name for name in rows.columns if name not in before.catalogue.columns.columns)
    return Extended(len(rows), parts.schema.num_items, ignored)
