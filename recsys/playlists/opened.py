"""A finished run of a retriever and its dataset, opened to look at the playlists."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from features.encode import Histories
from features.errors import InputError
from features.layout import CATALOGUE
from features.stage import read_manifest
from features.store import Dataset
from recsys.export.histories import history_vectors
from recsys.models import MODELS
from recsys.models.interface import Retriever
from recsys.models.playlist_bow import PlaylistBow, PlaylistBowConfig
from recsys.training.playlist_config import SkipGramConfig
from recsys.training.playlist_stages import fit_sif
from recsys.training.run import load_run
from recsys.training.skip_gram import song_vectors

Ints = NDArray[np.int64]
BAG_EPOCHS = 20
"""Of skip-gram, for the bag of songs that every probe stands beside."""


@dataclass(frozen=True)
class Opened:
    """A model in evaluation mode, and the playlists of its dataset: a user's events, in order."""

    model: Retriever
    name: str
    data: Dataset

    @classmethod
    def open(cls, run: Path, dataset: Path) -> "Opened":
        """Raises InputError when they do not belong together, or the model encodes no history."""
        data = Dataset.open(dataset)
        if read_manifest(run, "run").parent != data.manifest.sha256:
            raise InputError(f"{run} was trained on another dataset than {dataset}")
        model, name, _ = load_run(run)
        if not isinstance(model, Retriever):
            raise InputError(
                f"{run} trained {name}, a {MODELS[name].kind}: playlists need a retriever"
            )
        return cls(model, name, data)

    def untrained(self, run: Path) -> Retriever:
        """The same model as it was before it learned anything, song vectors included."""
        _, name, config = load_run(run)
        torch.manual_seed(0)
        model = MODELS[name].model(config).eval()
        assert isinstance(model, Retriever)
        return model

    def bag(self) -> PlaylistBow:
        """A SIF bag of songs of the same width, fitted on the training playlists."""
        sizes = PlaylistBowConfig(
            num_items=self.data.schema.num_items, max_len=self.model.max_len, dim=self.model.dim
        )
        model = PlaylistBow(sizes).eval()
        skip_gram = SkipGramConfig(epochs=BAG_EPOCHS)
        vectors = song_vectors(
            self.data.training_histories(), sizes.num_items, sizes.dim, skip_gram, 0
        )
        model.start_songs(torch.from_numpy(vectors))
        fit_sif(model, self.data)
        return model

    def rows(self, part: str) -> Ints:
        """Rows of the users whose whole playlist is of a part: training, or test.

        Test playlists are those of test cases, history and targets together. Of a split that
        trains on the beginning of the same users, both parts name them.
        """
        if part == "training":
            return np.flatnonzero(self.data.cuts["train_end"] > self.data.cuts["start"])
        return self.data.cases("test").users

    def songs(self, rows: Ints, part: str) -> list[Ints]:
        """Song ids of the playlists at `rows`, in order: their training part, or all of them."""
        end = self.data.cuts["train_end" if part == "training" else "test_end"]
        start = self.data.cuts["start"]
        items = self.data.items
        return [items[start[row] : end[row]].astype(np.int64) for row in rows.tolist()]

    def vectors(self, songs: Sequence[Ints], model: Retriever | None = None) -> np.ndarray:
        """Vectors of length 1, (P, D) float32, by this model or another one."""
        found = history_vectors(model or self.model, Histories.of(songs), self.data)
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)

    @cached_property
    def titles(self) -> list[str]:
        """What to show of each dense id: title and, where there is one, artist; else the raw id."""
        table = pl.read_parquet(self.data.path / CATALOGUE)
        shown = pl.col("item_id").cast(pl.String)
        if title := self.data.schema.title_column:
            shown = pl.coalesce(pl.col(title), shown)
        for name in ("artist", "artists"):
            if name in table.columns:
                made = pl.col(name)
                if table.schema[name] == pl.List(pl.String):
                    made = made.list.join(", ")
                shown = pl.concat_str([shown, made], separator=" - ", ignore_nulls=True)
                break
        return ["", *table.select(shown.alias("shown"))["shown"].to_list()]

    def users(self, rows: Ints) -> list[str]:
        """Raw ids of the users, as text."""
        names = self.data.vocabulary("user")
        return [str(names[row].as_py()) for row in rows.tolist()]

    def column(self, users: Path, name: str, rows: Ints) -> list[str | None]:
        """A column of a Parquet with a row a user_id, for the users at `rows`; None: unknown.

        Raises InputError where the file or the column is missing.
        """
        if not users.is_file():
            raise InputError(f"{users} is missing: expected a Parquet with a row a user_id")
        table = pl.read_parquet(users)
        if missing := sorted({"user_id", name} - set(table.columns)):
            raise InputError(f"{users} lacks {missing}; it has {table.columns}")
        known = dict(
            zip(
                table["user_id"].cast(pl.String).to_list(),
                table[name].cast(pl.String).to_list(),
                strict=True,
            )
        )
        found = [known.get(user) for user in self.users(rows)]
        if all(one is None for one in found):
            raise InputError(f"{users} has no {name} for any of the {len(rows)} playlists")
        return found

    def attribute(self, name: str) -> Ints:
        """(N + 1,) codes of a category column of the songs (the first of several values).

        Raises InputError where the dataset has no such column.
        """
        kinds = {c.name: c.kind for c in self.data.schema.item_columns}
        if kinds.get(name) not in ("category", "categories"):
            fit = sorted(n for n, kind in kinds.items() if kind in ("category", "categories"))
            raise InputError(f"{self.data.path} encodes no category {name!r}: it has {fit}")
        codes = self.data.item_table[name].astype(np.int64)
        return codes if codes.ndim == 1 else codes[:, 0]
