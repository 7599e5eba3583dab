"""MovieLens 10M, 20M, 25M and 32M, from GroupLens' archives (100K and 1M: `data.movielens`).

10M is separated by `::`; the later ones are CSV with a header.
"""

import polars as pl

from data.movielens import CITATION, EVENT, LICENCE, URL, YEAR
from data.public.formats import double_colon
from data.public.recipe import Archive, Layout, Read, Recipe, Table, number, seconds

_RATINGS = {
    "userId": pl.Int64,
    "movieId": pl.Int64,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
}
NO_GENRES = "(no genres listed)"
"""What the files say where there are none."""
_MOVIES = {"movieId": pl.Int64, "title": pl.String, "genres": pl.String}


def _edition(name: str, folder: str, md5: str, *, suffix: str = ".csv") -> Recipe:
    read: tuple[Read | None, Read | None] = (None, None)
    if suffix == ".dat":
        read = (double_colon(_RATINGS), double_colon(_MOVIES))
    events = Table(
        files=(f"ratings{suffix}",),
        read=read[0],
        columns={
            "user_id": number("userId"),
            "item_id": number("movieId"),
            "timestamp": seconds("timestamp"),
            "event": pl.lit(EVENT),
            "value": pl.col("rating").cast(pl.Float64),
        },
    )
    items = Table(
        files=(f"movies{suffix}",),
        read=read[1],
        columns={
            "item_id": number("movieId"),
            "title": pl.col("title"),
            "genres": pl.when(pl.col("genres") != NO_GENRES)
            .then(pl.col("genres").str.split("|"))
            .otherwise(pl.lit([], pl.List(pl.String))),
            "year": pl.col("title").str.extract(YEAR).cast(pl.Float64),
        },
    )
    return Recipe(
        layouts=(Layout(folder=folder, events=(events,), items=items),),
        item_columns={"title": "text", "genres": "categories", "year": "numeric"},
        title="title",
        licence=LICENCE,
        citation=CITATION,
        archive=Archive(f"{URL}/{name}.zip", md5),
    )


MOVIELENS_10M = _edition("ml-10m", "ml-10M100K", "ce571fd55effeba0271552578f2648bd", suffix=".dat")
MOVIELENS_20M = _edition("ml-20m", "ml-20m", "cd245b17a1ae2cc31bb14903e1204af3")
MOVIELENS_25M = _edition("ml-25m", "ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada")
MOVIELENS_32M = _edition("ml-32m", "ml-32m", "d472be332d4daa821edc399621853b57")
