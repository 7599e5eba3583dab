"""Playlists with planted genres: songs in blocks, some cross-talk; trained and exported once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import ItemFile, LogFiles
from features.build import build_dataset
from features.config import FeatureConfig, HeldOutUsers
from recsys.export.bundle import export
from recsys.export.config import ExportConfig, HistoryConfig
from recsys.training.config import SampledSoftmaxConfig, TrainConfig
from recsys.training.playlist_config import PartsConfig, PlaylistTraining, SkipGramConfig
from recsys.training.run import train

GENRES, SONGS = 4, 30


@dataclass(frozen=True)
class Planted:
    """Directories of the stages, and the table of users."""

    dataset: Path
    run: Path
    bag: Path
    bundle: Path
    users: Path


def write_log(folder: Path, num: int = 240) -> LogFiles:
    """Playlists of 5 to 14 songs; user u is of genre u % GENRES."""
    draw = np.random.default_rng(0)
    rows = []
    for user in range(num):
        genre, length = user % GENRES, int(draw.integers(5, 15))
        own = genre * SONGS + draw.integers(0, SONGS, length)
        songs = np.where(draw.random(length) < 0.9, own, draw.integers(0, GENRES * SONGS, length))
        rows += [(f"p{user}", int(s), 1_600_000_000 + 100 * user + i) for i, s in enumerate(songs)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_parquet(folder / "log.parquet")
    songs = pl.DataFrame(
        {
            "item_id": range(GENRES * SONGS),
            "title": [f"<Song> {s}" for s in range(GENRES * SONGS)],
            "artist": [f"artist {s // 3}" for s in range(GENRES * SONGS)],
        }
    )
    songs.write_parquet(folder / "songs.parquet")
    users = pl.DataFrame(
        {
            "user_id": [f"p{u}" for u in range(num)],
            "genre": [["rock", "jazz", "folk", "soul"][u % GENRES] for u in range(num)],
            "called": [f"List & {u}" for u in range(num)],
        }
    )
    users.write_parquet(folder / "users.parquet")
    return LogFiles(
        paths=(str(folder / "log.parquet"),),
        items=ItemFile(
            paths=(str(folder / "songs.parquet"),), columns={"title": "text", "artist": "category"}
        ),
    )


def settings(**changes: object) -> TrainConfig:
    return TrainConfig(
        max_epochs=2,
        batch_size=32,
        objective=SampledSoftmaxConfig(negatives=20),
        playlist=PlaylistTraining(**{"skip_gram": SkipGramConfig(subsample=0), **changes}),  # pyright: ignore
    )


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("playlists")
    build_events(write_log(root), root / "events")
    features = FeatureConfig(
        duplicates="keep",
        item_columns=("artist",),
        split=HeldOutUsers(validation=0.2, test=0.3),
    )
    dataset = root / "dataset"
    build_dataset(root / "events", features, dataset)
    tuned = settings(parts=PartsConfig(epochs=2))
    train("playlist_seq2seq", {"dim": 16, "max_len": 40}, tuned, dataset, root / "run")
    train("playlist_bow", {"dim": 16}, settings(), dataset, root / "bag")
    config = ExportConfig(
        sources=("history_knn", "model", "popularity"),
        candidates=40,
        histories=HistoryConfig(neighbours=8),
        golden_requests=2,
    )
    export(root / "run", dataset, config, root / "bundle")
    return Planted(dataset, root / "run", root / "bag", root / "bundle", root / "users.parquet")
