"""An older dataset that a new one continues: its ids and fitted values are kept."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from tokenizers import Tokenizer

from features.config import FeatureConfig
from features.errors import InputError
from features.layout import PARTS, TOKENIZER, DatasetSchema, vocabulary_file
from features.parts import files_of_part
from features.reduced import part_files
from features.resume import Workspace
from features.stage import StageManifest, read_manifest
from features.store import read_table
from features.text import load_tokenizer

EVENT_FILES = "event_files"
"""Key in a dataset's manifest: name -> sha256 of the event files that it was made of."""


@dataclass(frozen=True, slots=True)
class Base:
    """An opened older dataset."""

    path: Path
    manifest: StageManifest
    schema: DatasetSchema

    @classmethod
    def open(cls, path: Path, config: FeatureConfig) -> "Base":
        """Raises InputError for a dataset that cannot be continued with this config."""
        manifest = read_manifest(path, "dataset")
        if EVENT_FILES not in manifest.config:
            raise InputError(f"{path} was not made of a log in parts: build it anew")
        if config.min_item_events > 1:
            raise InputError(
                f"min_item_events={config.min_item_events} depends on every event of the log, so "
                f"nothing of {path} could be kept: build the dataset without a base"
            )
        was = manifest.config["features"]
        for name in ("events", "duplicates", "min_user_events", "item_columns", "item_kinds"):
            new = getattr(config, name)
            new = list(new) if isinstance(new, tuple) else new
            if was.get(name, new) != new:
                raise InputError(
                    f"{name} is {new!r}, and {was[name]!r} in {path}: a dataset grows by the "
                    f"config that it has"
                )
        return cls(path, manifest, DatasetSchema.read(path))

    def item_ids(self) -> pa.Array:
        """Raw ids of the dense ids 1..N."""
        return self.vocabulary("item")

    def vocabulary(self, name: str) -> pa.Array:
        """Raw ids of the items, or the known values of a column."""
        return read_table(self.path / vocabulary_file(name)).column("id").combine_chunks()

    def known_values(self, name: str) -> pl.Series:
        """The known values of a category column, in the order of their codes."""
        return pl.Series(pl.from_arrow(self.vocabulary(name)))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of its text columns."""
        return load_tokenizer(self.path / TOKENIZER)

    def unchanged(self, events: StageManifest) -> dict[int, Path]:
        """The parts whose event files are those that this dataset was made of, and their folder."""
        held = self.manifest.config[EVENT_FILES]
        kept = {}
        for part in range(int(events.config["parts"])):
            names = files_of_part(events.files, part)
            files = part_files(self.path / PARTS, part)
            same = {n: events.files[n] for n in names} == {
                n: held[n] for n in files_of_part(held, part)
            }
            if names and same and all(path.is_file() for path in files):
                kept[part] = self.path / PARTS
        return kept

    def link(self, part: int, work: Workspace) -> None:
        """Share the files of a part by hard link."""
        for path in part_files(self.path / PARTS, part):
            target = work.directory / PARTS / path.name
            if not target.exists():
                os.link(path, target)
            name = f"{PARTS}/{path.name}"
            work.hashes[name] = self.manifest.files[name]


def event_files(events: StageManifest) -> dict[str, Any]:
    """What `unchanged` compares."""
    return {name: digest for name, digest in events.files.items() if name.startswith(f"{PARTS}/")}
