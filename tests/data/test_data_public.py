"""What holds for every public data set: names, terms, errors, downloads."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints
from zipfile import ZipFile

import pytest

from data.config import PublicData
from data.public import RECIPES, reading
from data.public.recipe import Archive
from data.tables import Tables
from features.errors import InputError

MOVIELENS_20M = {
    "ml-20m/ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n",
    "ml-20m/movies.csv": "movieId,title,genres\n2,Heat (1995),Drama\n",
}


def test_every_source_has_a_name_a_licence_and_a_citation() -> None:
    names = get_args(get_type_hints(PublicData)["source"])
    assert list(names) == sorted(RECIPES)
    for recipe in RECIPES.values():
        assert len(recipe.licence) > 5
        assert len(recipe.citation) > 10


def test_what_is_missing_or_wrong_is_said(
    put: Callable[..., None],
    load_public: Callable[..., Tables],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"holds no steam_100k/interactions\.parquet or steam/"):
        load_public("steam")
    with pytest.raises(InputError, match="has several parts: name one"):
        load_public("amazon-2023")
    put({"taobao/UserBehavior.csv": "1,x,2,pv,1511544070\n"})
    with pytest.raises(InputError, match="taobao is not as taobao is expected"):
        load_public("taobao")
    put({"steam/steam_reviews.json.gz": "{'username': 'a'}\n{'username':"})
    with pytest.raises(InputError, match="line 2 is no Python dictionary"):
        load_public("steam")
    monkeypatch.delenv("RECSYS_DATA")
    with pytest.raises(InputError, match="cannot be downloaded without asking"):
        load_public("steam")


def test_an_archive_is_fetched_once_and_unpacked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fake(url: str, target: Path, *, md5: str) -> Path:
        asked.append((url, md5))
        with ZipFile(target, "w") as content:
            for name, text in MOVIELENS_20M.items():
                content.writestr(name, str(text))
        return target

    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr(reading, "download", fake)
    config = PublicData(source="movielens-20m", cache=str(tmp_path / "cache"))
    for _ in range(2):
        assert len(reading.load(config).events) == 1
    archive = RECIPES["movielens-20m"].archive
    assert isinstance(archive, Archive)
    assert asked == [(archive.url, archive.md5)]
