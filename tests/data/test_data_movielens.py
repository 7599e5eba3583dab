import hashlib
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from data import movielens
from data.config import MovieLens
from data.movielens import EDITIONS, GENRES_100K, load
from features.errors import InputError
from features.schema import check_events, check_items

REAL = Path(__file__).parents[3] / "shared/datasets"
ONE_M, HUNDRED_K = MovieLens(source="movielens-1m"), MovieLens(source="movielens-100k")

OFFICIAL_1M = {
    # user 1 stands unsorted; items 20, 10 and 30 share a second, in this order
    "ratings.dat": "2::10::5::978300760\n1::20::3::978300000\n1::10::4::978300000\n"
    "1::40::1::978200000\n1::30::5::978300000\n",
    "movies.dat": "10::Misérables, Les (1995)::Drama|Musical\n20::2001: A Space Odyssey (1968)::"
    'Drama\n30::Heat (1995)::Action\n40::Up "There" (1990)::Comedy\n',
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}
OFFICIAL_100K = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t1\t5\t881250000\n",
    "u.item": "1|Toy Story (1995)|01-Jan-1995||http://x/?Toy%20Story|"
    + "|".join("1" if genre in ("Animation", "Comedy") else "0" for genre in GENRES_100K)
    + "\n242|unknown||||"
    + "|".join("1" if genre == "unknown" else "0" for genre in GENRES_100K)
    + "\n302|L.A. Confidential (1997)|01-Jan-1997||http://y|"
    + "|".join("0" for _ in GENRES_100K)
    + "\n",
    "u.user": "186|39|F|executive|00000\n196|49|M|writer|55105\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    return tmp_path


def unpack(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("latin-1"))


def pack(archive: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(archive, "w") as content:
        for name, text in files.items():
            content.writestr(f"{archive.stem}/{name}", text.encode("latin-1"))


def test_one_m_as_unpacked_is_sorted_stably(folder: Path) -> None:
    unpack(folder / "ml-1m", OFFICIAL_1M)
    tables = load(ONE_M)
    assert tables.events.select("user_id", "item_id", "value").rows() == [
        (1, 40, 1.0),
        (1, 20, 3.0),
        (1, 10, 4.0),
        (1, 30, 5.0),
        (2, 10, 5.0),
    ]
    assert tables.events["timestamp"][1] == datetime(2000, 12, 31, 22, 0)
    assert tables.items is not None
    assert tables.items.row(0) == (10, "Misérables, Les (1995)", ["Drama", "Musical"], 1995)
    assert tables.items.row(1)[1:] == ("2001: A Space Odyssey (1968)", ["Drama"], 1968)
    assert tables.users is not None
    assert tables.users.row(0) == (1, "F", 1, 10, "48067")
    content = OFFICIAL_1M["users.dat"].encode()
    assert tables.raw_files["ml-1m/users.dat"] == hashlib.sha256(content).hexdigest()


def test_hundred_k_as_unpacked(folder: Path) -> None:
    unpack(folder / "ml-100k", OFFICIAL_100K)
    tables = load(HUNDRED_K)
    events = tables.events.select("user_id", "item_id", "value").rows()
    assert events == [(186, 302, 3.0), (196, 1, 5.0), (196, 242, 3.0)]
    assert tables.items is not None
    assert tables.items.rows() == [
        (1, "Toy Story (1995)", ["Animation", "Comedy"], 1995),
        (242, "unknown", ["unknown"], None),
        (302, "L.A. Confidential (1997)", [], 1997),
    ]


@pytest.mark.parametrize(
    ("config", "name", "files"),
    [(ONE_M, "ml-1m", OFFICIAL_1M), (HUNDRED_K, "ml-100k", OFFICIAL_100K)],
)
def test_the_archive_gives_what_the_folder_gives(
    folder: Path, config: MovieLens, name: str, files: dict[str, str]
) -> None:
    pack(folder / f"{name}.zip", files)
    packed = load(config)
    unpack(folder / name, files)
    unpacked = load(config)
    assert packed.events.equals(unpacked.events)
    assert packed.raw_files == unpacked.raw_files
    check_events(packed.events, "test")
    assert packed.items is not None
    check_items(packed.items, "test", packed.item_columns)


def test_the_parquet_layout_keeps_the_order_of_the_file_in_ties(folder: Path) -> None:
    root = folder / "movielens_1m"
    root.mkdir()
    pl.DataFrame(
        {"user_id": [1, 1, 1], "item_id": [9, 3, 5], "timestamp": [7, 7, 6]},
        schema_overrides={"user_id": pl.Int32, "item_id": pl.Int32},
    ).write_parquet(root / "interactions.parquet")
    items = {"item_id": [3], "title": ["A"], "genres": [["Drama"]], "year": [1990]}
    pl.DataFrame(items).write_parquet(root / "items.parquet")
    pl.DataFrame({"user_id": [1], "age": [30]}).write_parquet(root / "users.parquet")
    tables = load(ONE_M)
    assert tables.events["item_id"].to_list() == [5, 9, 3]
    assert tables.events.columns == ["user_id", "item_id", "timestamp", "event"]


def test_a_thousand_ties_keep_the_order_of_the_file(folder: Path) -> None:
    items = pl.Series(range(1, 20_001)).shuffle(seed=1).to_list()
    ratings = "".join(f"{item % 2 + 1}::{item}::3::978300000\n" for item in items)
    unpack(folder / "ml-1m", OFFICIAL_1M | {"ratings.dat": ratings})
    expected = [item for odd in (0, 1) for item in items if item % 2 == odd]
    assert load(ONE_M).events["item_id"].to_list() == expected


def test_an_empty_recsys_data_folder_lists_what_was_sought(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none of movielens_1m/, ml-1m/ and ml-1m\.zip"):
        load(ONE_M)


def test_a_file_that_is_missing_or_damaged_is_named(folder: Path) -> None:
    unpack(folder / "ml-1m", OFFICIAL_1M)
    (folder / "ml-1m/users.dat").unlink()
    with pytest.raises(InputError, match=r"ml-1m has no users\.dat"):
        load(ONE_M)
    (folder / "ml-1m/users.dat").write_text("1::F::young::10::48067\n")
    with pytest.raises(InputError, match=r"ml-1m/users\.dat is not as published"):
        load(ONE_M)
    (folder / "ml-100k.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(InputError, match=r"ml-100k\.zip is not the archive of GroupLens"):
        load(HUNDRED_K)


def test_without_recsys_data_the_official_archive_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fake(url: str, target: Path, *, md5: str) -> Path:
        asked.append((url, md5))
        pack(target, OFFICIAL_1M)
        return target

    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr(movielens, "download", fake)
    tables = load(replace(ONE_M, cache=str(tmp_path / "cache")))
    assert len(tables.events) == 5
    assert asked == [
        (
            "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
            "c4d9eecfca2ab87c1945afe126590906",
        )
    ]
    assert EDITIONS["movielens-100k"].md5 == "0e33842e24a9c977be4e0107933c0723"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not beside the repository")
@pytest.mark.parametrize(
    ("config", "rows", "users", "items"),
    [(ONE_M, 999_611, 6_040, 3_416), (HUNDRED_K, 100_000, 943, 1_682)],
)
def test_the_real_parquet_files(
    config: MovieLens, rows: int, users: int, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(REAL))
    tables = load(config)
    counts = tables.events.select(pl.len(), pl.col("user_id", "item_id").n_unique()).row(0)
    assert counts == (rows, users, items)
    raw = pl.read_parquet(REAL / EDITIONS[config.source].parquet / "interactions.parquet")
    assert tables.events["item_id"].equals(raw["item_id"].cast(pl.Int64))  # it is sorted already
    assert tables.items is not None
    check_items(tables.items, "test", tables.item_columns)
