"""MovieLens 100K and 1M (Harper & Konstan, ACM TiiS 2015).

Where it is read from, the first that exists:
  $RECSYS_DATA/movielens_1m/interactions.parquet, items.parquet, users.parquet
  $RECSYS_DATA/ml-1m/ratings.dat, movies.dat, users.dat   (as unpacked; 100K: ml-100k/u.data, ...)
  $RECSYS_DATA/ml-1m.zip                                  (as published)
  the official archive, downloaded; only where RECSYS_DATA is not set

Nothing is filtered and no rating is dropped: 1M has 1,000,209 ratings in the official files and
999,611 in the Parquet layout, which leaves out films with fewer than five. Rows are sorted by user
and time, stably: many ratings share a second, and among those the order of the file is the order.
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import polars as pl

from data.config import MovieLens
from data.download import download
from data.tables import Tables
from features.errors import InputError
from features.stage import file_sha256

URL = "https://files.grouplens.org/datasets/movielens"
LICENCE = (
    "GroupLens terms of use: research with citation; no redistribution, no commercial use "
    "without permission"
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872"
)
EVENT = "rating"
TITLE = "title"
YEAR = r"\((\d{4})\)\s*$"
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime",
    "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance",
    "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Edition:
    """Where one edition lives, and how its official files are read."""

    folder: str
    """Of the unpacked archive, which is `<folder>.zip`."""
    parquet: str
    md5: str
    """Of the archive, as published beside it."""
    files: tuple[str, str, str]
    """Ratings, items, users."""


EDITIONS = {
    "movielens-100k": Edition(
        "ml-100k",
        "movielens_100k",
        "0e33842e24a9c977be4e0107933c0723",
        ("u.data", "u.item", "u.user"),
    ),
    "movielens-1m": Edition(
        "ml-1m",
        "movielens_1m",
        "c4d9eecfca2ab87c1945afe126590906",
        ("ratings.dat", "movies.dat", "users.dat"),
    ),
}


def load(config: MovieLens) -> Tables:
    """The tables of one edition; raises InputError when it is neither here nor to be had."""
    edition = EDITIONS[config.source]
    folder = os.environ.get("RECSYS_DATA")
    if not folder:
        archive = Path(config.cache).expanduser() / f"{edition.folder}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        download(f"{URL}/{archive.name}", archive, md5=edition.md5)
        return _official_tables(config.source, _archived_files(edition, archive))
    root = Path(folder).expanduser()
    if (root / edition.parquet).is_dir():
        return _parquet_tables(root / edition.parquet)
    if (root / edition.folder).is_dir():
        return _official_tables(config.source, _unpacked_files(edition, root / edition.folder))
    if (root / f"{edition.folder}.zip").is_file():
        archive = root / f"{edition.folder}.zip"
        return _official_tables(config.source, _archived_files(edition, archive))
    raise InputError(
        f"RECSYS_DATA={folder} holds none of {edition.parquet}/, {edition.folder}/ and "
        f"{edition.folder}.zip: put one of them there, or unset it to download"
    )


def _unpacked_files(edition: Edition, folder: Path) -> dict[str, bytes]:
    """Name in the archive -> content, of the three files."""
    if missing := [name for name in edition.files if not (folder / name).is_file()]:
        raise InputError(f"{folder} has no {', '.join(missing)}: unpack {folder.name}.zip again")
    return {f"{edition.folder}/{name}": (folder / name).read_bytes() for name in edition.files}


def _archived_files(edition: Edition, archive: Path) -> dict[str, bytes]:
    """The same from the archive."""
    names = [f"{edition.folder}/{name}" for name in edition.files]
    try:
        with ZipFile(archive) as content:
            return {name: content.read(name) for name in names}
    except (BadZipFile, KeyError) as error:
        raise InputError(
            f"{archive} is not the archive of GroupLens ({error}): delete it"
        ) from error


def _official_tables(source: str, files: dict[str, bytes]) -> Tables:
    """Parse ratings, items and users, in this order."""
    parse = {"movielens-1m": _parse_1m, "movielens-100k": _parse_100k}[source]
    try:
        ratings, items, users = parse(*files.values())
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        where = " or ".join(files)
        raise InputError(
            f"{where} is not as published ({error}): fetch the archive again"
        ) from error
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    return _tables(ratings, items, users, hashes)


def _csv(
    content: bytes, separator: str, schema: dict[str, pl.DataType | type[pl.DataType]]
) -> pl.DataFrame:
    r"""A table without header and quotes, in Latin-1. No field holds "::" or a tab.

    >>> _csv(b"1::Am\xe9lie\n", "::", {"item_id": pl.Int64, "title": pl.String}).rows()
    [(1, 'Amélie')]
    """
    text = content.decode("latin-1").replace(separator, "\t").encode()
    return pl.read_csv(
        BytesIO(text), has_header=False, separator="\t", quote_char=None, schema=schema
    )


RATINGS = {
    "user_id": pl.Int64,
    "item_id": pl.Int64,
    "value": pl.Float64,
    "timestamp": pl.Int64,
}


def _parse_1m(
    ratings: bytes, movies: bytes, users: bytes
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    movie = {"item_id": pl.Int64, TITLE: pl.String, "genres": pl.String}
    person = {
        "user_id": pl.Int64,
        "gender": pl.String,
        "age": pl.Int64,
        "occupation": pl.Int64,
        "zip": pl.String,
    }
    items = _csv(movies, "::", movie).with_columns(
        genres=pl.col("genres").str.split("|"),
        year=pl.col(TITLE).str.extract(YEAR).cast(pl.Int64),
    )
    return _csv(ratings, "::", RATINGS), items, _csv(users, "::", person)


def _parse_100k(
    ratings: bytes, movies: bytes, users: bytes
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    movie = {
        "item_id": pl.Int64,
        TITLE: pl.String,
        "released": pl.String,
        "video": pl.String,
        "url": pl.String,
        **dict.fromkeys(GENRES_100K, pl.Int64),
    }
    person = {
        "user_id": pl.Int64,
        "age": pl.Int64,
        "gender": pl.String,
        "occupation": pl.String,
        "zip": pl.String,
    }
    flags = [
        pl.when(pl.col(genre) == 1).then(pl.lit(genre)).otherwise(None) for genre in GENRES_100K
    ]
    items = _csv(movies, "|", movie).select(
        "item_id",
        TITLE,
        genres=pl.concat_list(flags).list.drop_nulls(),
        year=pl.col("released").str.extract(r"(\d{4})$").cast(pl.Int64),
    )
    return _csv(ratings, "\t", RATINGS), items, _csv(users, "|", person)


def _parquet_tables(folder: Path) -> Tables:
    """The Parquet layout; its 100K names the columns of items as RecBole does."""
    paths = [folder / f"{name}.parquet" for name in ("interactions", "items", "users")]
    try:
        ratings, items, users = (pl.read_parquet(path) for path in paths)
        renamed = {
            "rating": "value",
            "movie_title": TITLE,
            "class": "genres",
            "release_year": "year",
            "zip_code": "zip",
        }
        ratings, items, users = (
            frame.rename(renamed, strict=False) for frame in (ratings, items, users)
        )
        hashes = {f"{folder.name}/{path.name}": file_sha256(path) for path in paths}
        return _tables(ratings, items.select("item_id", TITLE, "genres", "year"), users, hashes)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{folder} is not the expected Parquet layout ({error})") from error


def _tables(
    ratings: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, hashes: dict[str, str]
) -> Tables:
    """Canonical tables; `value` is the rating, where the layout has it."""
    columns = ["user_id", "item_id", "timestamp", "event"]
    events = ratings.sort("user_id", "timestamp", maintain_order=True).with_columns(
        pl.col("user_id", "item_id").cast(pl.Int64),
        timestamp=pl.from_epoch("timestamp", time_unit="s").cast(pl.Datetime("us")),
        event=pl.lit(EVENT),
    )
    if "value" in ratings.columns:
        columns.append("value")
        events = events.with_columns(pl.col("value").cast(pl.Float64))
    return Tables(
        events=events.select(columns),
        items=items.with_columns(pl.col("item_id", "year").cast(pl.Int64)),
        users=users.with_columns(pl.col("user_id").cast(pl.Int64)),
        item_columns={TITLE: "text", "genres": "categories", "year": "numeric"},
        title_column=TITLE,
        licence=LICENCE,
        citation=CITATION,
        raw_files=hashes,
    )
