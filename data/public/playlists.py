"""Playlists of Spotify: an archive of public ones, and the Million Playlist Dataset.

A playlist is a user and its songs are events, a second apart: their order is what matters.
"""

from pathlib import Path

import polars as pl

from data.public.recipe import Layout, Recipe, Table, invented, number, seconds, text, utc

ADD = pl.lit("add")

SPOTIFY = Recipe(
    layouts=(
        Layout(
            folder="spotify_playlist_archive",
            events=(
                Table(
                    files=("playlist_tracks.parquet",),
                    columns={
                        "user_id": number("snapshot_id"),
                        "item_id": number("track_id"),
                        "timestamp": invented(
                            pl.col("snapshot_id").cast(pl.Int64) * 1_000 + pl.col("position")
                        ),
                        "event": ADD,
                    },
                ),
            ),
            items=Table(
                files=("tracks.parquet",),
                columns={
                    "item_id": number("track_id"),
                    "title": text("title"),
                    "artists": pl.col("artists"),
                    "album": text("album"),
                    "seconds": pl.col("duration_s").cast(pl.Float64),
                },
            ),
            users=Table(
                files=("playlists.parquet",),
                columns={
                    "user_id": number("snapshot_id"),
                    "playlist": number("playlist_idx"),
                    "name": text("playlist_name"),
                    "snapshot": utc("snapshot_time"),
                },
            ),
        ),
    ),
    item_columns={
        "title": "text",
        "artists": "categories",
        "album": "category",
        "seconds": "numeric",
    },
    title="title",
    licence="Catalogue data of the Spotify Web API, under its terms: research only",
    citation="spotify-playlist-archive, weekly snapshots of public playlists, 2019 to 2021",
    notes=(
        "A user is a snapshot, and snapshots of one playlist overlap: users.parquet has `playlist` "
        "and `snapshot` (the time); split by one of them, never at random. Times of events are "
        "made up from snapshot and position.",
    ),
)


def _slice(path: Path) -> pl.LazyFrame:
    """The tracks of one mpd.slice file, a row each."""
    playlists = pl.read_json(path).lazy().select("playlists").explode("playlists")
    tracks = playlists.unnest("playlists").select("pid", "modified_at", "tracks")
    return tracks.explode("tracks").unnest("tracks")


MPD = Recipe(
    layouts=(
        Layout(
            folder="spotify-mpd",
            events=(
                Table(
                    files=("data/mpd.slice.*.json", "mpd.slice.*.json"),
                    read=_slice,
                    columns={
                        "user_id": number("pid"),
                        "item_id": text("track_uri"),
                        "timestamp": seconds("modified_at") + pl.duration(seconds="pos"),
                        "event": ADD,
                    },
                ),
            ),
            items=Table(
                files=("data/mpd.slice.*.json", "mpd.slice.*.json"),
                read=_slice,
                then=lambda tracks: tracks.unique("track_uri", keep="first", maintain_order=True),
                columns={
                    "item_id": text("track_uri"),
                    "title": text("track_name"),
                    "artist": text("artist_name"),
                    "album": text("album_name"),
                    "seconds": pl.col("duration_ms").cast(pl.Float64) / 1_000,
                },
            ),
        ),
    ),
    item_columns={
        "title": "text",
        "artist": "category",
        "album": "category",
        "seconds": "numeric",
    },
    title="title",
    licence="Spotify Million Playlist Dataset terms: research, no redistribution",
    citation=(
        "C.-W. Chen, P. Lamere, M. Schedl and H. Zamani. 2018. RecSys Challenge 2018: automatic "
        "music playlist continuation. RecSys"
    ),
    notes=("An event's time is the playlist's last change plus its position in seconds.",),
)
