import json
from pathlib import Path

import polars as pl
import pytest

from data.build import build_events
from data.config import LogFiles, Synthetic
from features.errors import InputError
from features.stage import read_manifest, verify_files

SHOP = Synthetic(num_users=40, num_items=80, clicks_per_user=10, seed=9)


def test_the_stage_holds_the_tables_and_says_where_they_come_from(tmp_path: Path) -> None:
    build_events(SHOP, tmp_path / "events")
    manifest = read_manifest(tmp_path / "events", "events")
    verify_files(tmp_path / "events", manifest)
    assert sorted(manifest.files) == [
        "ceiling.json",
        "events.parquet",
        "items.parquet",
        "users.parquet",
    ]
    assert manifest.config["source"]["source"] == "synthetic"
    assert manifest.config["source"]["seed"] == 9
    assert manifest.config["title_column"] == "title"
    assert manifest.config["item_columns"]["category"] == "categories"
    best = json.loads((tmp_path / "events/ceiling.json").read_text())
    assert 0 < best["all"]["expected_hr@10"] < 1


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        build_events(SHOP, tmp_path / name)
    first, second = (read_manifest(tmp_path / name, "events") for name in ("first", "second"))
    assert first.files == second.files
    assert first.sha256 == second.sha256


def test_a_log_without_items_has_no_items_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\nada,1,1700000000\n")
    build_events(LogFiles(paths=(str(log),)), tmp_path / "events")
    said = "1 events (1 interaction) of 1 users on 1 items, 2023-11-14 to 2023-11-14;"
    assert said in capsys.readouterr().err
    manifest = read_manifest(tmp_path / "events", "events")
    assert list(manifest.files) == ["events.parquet"]
    assert list(manifest.config["raw_files"]) == [str(log)]
    assert manifest.config["item_columns"] == {}
    events = pl.read_parquet(tmp_path / "events/events.parquet")
    assert events.select("user_id", "item_id", "event").rows() == [("ada", 1, "interaction")]


def test_nothing_is_overwritten_and_a_bad_log_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    with pytest.raises(InputError, match="events exists"):
        build_events(SHOP, tmp_path / "events")
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\nada,,1700000000\n")
    with pytest.raises(InputError, match=r"log\.csv: 1 of 1 rows have no item_id"):
        build_events(LogFiles(paths=(str(log),)), tmp_path / "other")
    assert not (tmp_path / "other").exists()
