"""Music as it was played: 30Music (listening sessions), and classic rock on US radio."""

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, seconds, text, utc

THIRTY_MUSIC = Recipe(
    layouts=(
        Layout(
            folder="thirty_music_sessions_10pct",
            events=(
                Table(
                    files=("interactions.parquet",),
                    columns={
                        "user_id": number("user_id"),
                        "item_id": number("song_id"),
                        "timestamp": seconds("ts"),
                        "event": pl.lit("play"),
                        "session_id": number("session_id"),
                        "value": pl.col("playtime").cast(pl.Float64),
                    },
                ),
            ),
        ),
    ),
    licence="Not stated; called freely available for research by the paper (content of Last.fm)",
    citation=(
        "R. Turrin, M. Quadrana, A. Condorelli, R. Pagano and P. Cremonesi. 2015. 30Music "
        "listening and playlists dataset. RecSys posters"
    ),
    notes=("`value` is the play time in seconds. Sessions of listening, not playlists.",),
)

CLASSIC_ROCK = Recipe(
    layouts=(
        Layout(
            folder="classic_rock_radio",
            events=(
                Table(
                    files=("interactions.parquet",),
                    then=lambda plays: plays.sort("time", "unique_id"),
                    columns={
                        "user_id": text("callsign"),
                        "item_id": text("combined"),
                        "timestamp": utc("date_time"),
                        "event": pl.lit("play"),
                    },
                ),
            ),
            items=Table(
                files=("items.parquet",),
                columns={
                    "item_id": text("combined"),
                    "title": text("song"),
                    "artist": text("artist"),
                    "year": pl.col("release_year").cast(pl.Float64),
                },
            ),
        ),
    ),
    item_columns={"title": "text", "artist": "category", "year": "numeric"},
    title="title",
    licence="CC BY 4.0 (FiveThirtyEight)",
    citation="W. Hickey. 2014. Why classic rock isn't what it used to be. FiveThirtyEight",
    notes=(
        "A user is a radio station. Many plays share the time of the scrape: the order within one "
        "time is not certain.",
    ),
)
