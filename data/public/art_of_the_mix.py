"""Art of the Mix 2011 (McFee & Lanckriet): mixes that people made, a user each.

aotm2011_playlists.json as published. Songs without an id of the Million Song Dataset are known by
artist and title.
"""

import json
from pathlib import Path

import polars as pl

from data.public.recipe import Layout, Recipe, Table, number, text, text_time

_FILES = ("aotm2011_playlists.json",)


def read_mixes(path: Path) -> pl.LazyFrame:
    """One row a song: mix_id, category, at (text, to the second), place, artist, title, song."""
    rows = [
        (
            mix["mix_id"],
            mix["category"],
            mix["timestamp"][:19].replace("T", " "),
            place,
            *names,
            song,
        )
        for mix in json.loads(path.read_text())
        for place, (names, song) in enumerate(mix["playlist"])
    ]
    schema = {
        "mix_id": pl.Int64,
        "category": pl.String,
        "at": pl.String,
        "place": pl.Int64,
        "artist": pl.String,
        "title": pl.String,
        "song": pl.String,
    }
    named = pl.concat_str("artist", "title", separator=" - ")
    return pl.LazyFrame(rows, schema, orient="row").with_columns(song=pl.coalesce("song", named))


ART_OF_THE_MIX = Recipe(
    layouts=(
        Layout(
            folder="aotm2011",
            events=(
                Table(
                    files=_FILES,
                    read=read_mixes,
                    columns={
                        "user_id": number("mix_id"),
                        "item_id": text("song"),
                        "timestamp": text_time("at", "%Y-%m-%d %H:%M:%S")
                        + pl.duration(seconds="place"),
                        "event": pl.lit("add"),
                    },
                ),
            ),
            items=Table(
                files=_FILES,
                read=read_mixes,
                columns={
                    "item_id": text("song"),
                    "title": text("title"),
                    "artist": text("artist"),
                },
            ),
            users=Table(
                files=_FILES,
                read=read_mixes,
                columns={"user_id": number("mix_id"), "category": text("category")},
            ),
        ),
    ),
    item_columns={"title": "text", "artist": "category"},
    title="title",
    licence="Published for research, with citation",
    citation="B. McFee and G. Lanckriet. 2012. Hypergraph models of playlist dialects. ISMIR",
    notes=("An event's time is that of the mix plus its place in seconds.",),
)
