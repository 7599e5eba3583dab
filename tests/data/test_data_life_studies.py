"""Readers of public studies on pieces made by hand, in the files' own columns and types."""

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from data.life import LifeTables
from data.life_config import LifeStudy
from data.life_studies import READERS, load_study


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    for name in ("physionet2012_icu_set_a", "danish_diabetes_register", "skelleftea_life_courses"):
        (tmp_path / name).mkdir()
    return tmp_path


def read(source: str) -> LifeTables:
    return load_study(LifeStudy(source=source))  # type: ignore[arg-type]


def test_intensive_care_without_scores_and_lengths_of_stay(root: Path) -> None:
    folder = root / "physionet2012_icu_set_a"
    pl.DataFrame(
        {"record_id": [7, 7, 8], "minute": [0, 75, 2880], "parameter": ["HR", "pH", "HR"],
         "value": [80.0, 7.4, 91.0]},
        {"record_id": pl.Int32, "minute": pl.Int16, "parameter": pl.String, "value": pl.Float32},
    ).write_parquet(folder / "events.parquet")  # fmt: skip
    pl.DataFrame(
        {"record_id": [7, 8], "age": [64.0, 90.0], "gender": ["male", None],
         "height_cm": [180.0, None], "weight_kg": [None, 70.0], "icu_type": [None, None],
         "saps_i": [16, 9], "sofa": [4, 1], "length_of_stay_days": [5, 8],
         "survival_days": [-1, 3], "in_hospital_death": [0, 1]}
    ).write_parquet(folder / "persons.parquet")  # fmt: skip
    found = read("physionet2012-icu")
    assert found.users is not None
    assert found.outcomes is not None
    assert found.events.columns == ["user_id", "timestamp", "parameter", "value"]
    assert found.events["timestamp"].to_list()[1:] == [
        datetime(2000, 1, 1, 1, 15),
        datetime(2000, 1, 3),
    ]
    assert found.users.columns == ["user_id", "age", "gender", "height_cm", "weight_kg", "birth"]
    assert found.outcomes.columns == ["user_id", "at", "in_hospital_death"]
    assert found.outcomes["in_hospital_death"].to_list() == [0.0, 1.0]
    assert found.outcomes["at"].min() > found.events["timestamp"].max()  # type: ignore[operator]


def test_the_register_has_birth_and_exit_as_columns_only(root: Path) -> None:
    folder = root / "danish_diabetes_register"
    kinds = ["birth", "diagnosis", "insulin", "death", "exit"]
    pl.DataFrame(
        {"person_id": [1] * 5 + [2] * 3, "event": [*kinds, "birth", "diagnosis", "exit"],
         "day_since_1970": [-7000, 10_000, 11_000, 12_000, 12_000, 0, 9_000, 14_609]},
        {"person_id": pl.UInt32, "event": pl.String, "day_since_1970": pl.Int32},
    ).write_parquet(folder / "events.parquet")  # fmt: skip
    pl.DataFrame(
        {"person_id": [1, 2], "sex": ["M", "F"], "death_year": [2002.9, None]},
        {"person_id": pl.UInt32, "sex": pl.Categorical, "death_year": pl.Float64},
    ).write_parquet(folder / "persons.parquet")
    found = read("danish-diabetes")
    assert found.users is not None
    assert found.outcomes is None, "outcomes follow from events and a landmark"
    assert found.events["event"].to_list() == ["diagnosis", "insulin", "death", "diagnosis"]
    assert found.users.columns == ["user_id", "sex", "birth", "exit"]
    assert found.users["birth"].dt.date().to_list() == [date(1950, 11, 2), date(1970, 1, 1)]
    assert found.users["exit"].dt.date().to_list() == [date(2002, 11, 9), date(2009, 12, 31)]


def test_children_are_events_of_their_family_and_unknown_fates_have_no_label(root: Path) -> None:
    pl.DataFrame(
        {"id": [1, 2, 3, 4], "m_id": [9, 9, 9, None], "sex": ["male", "female", "male", "male"],
         "socBranch": ["farming"] * 4, "birthdate": [date(1860, 1, 1), date(1862, 1, 1),
         date(1864, 1, 1), date(1865, 1, 1)], "enter": [0.0] * 4, "exit": [2.1, 15.0, 1.0, 15.0],
         "event": [1.0, 0.0, 0.0, 0.0], "illeg": ["no"] * 4, "m_age": [25.0, 27.0, 29.0, 30.0]},
    ).write_parquet(root / "skelleftea_life_courses" / "child.parquet")  # fmt: skip
    found = read("skelleftea-children")
    assert found.outcomes is not None
    assert set(found.events["user_id"]) == {9}
    told = found.events.sort("timestamp")["event"].to_list()
    assert told == ["birth", "birth", "death", "birth", "moved"]
    assert found.outcomes["at"].dt.date().to_list()[0] == date(1860, 1, 2)
    assert found.outcomes["dies_before_five"].to_list() == [1.0, 0.0, None]
    at_birth = found.events.filter(pl.col("event") == "birth")
    assert at_birth["age_at_death"].null_count() == 3, "a birth does not tell the death"


def test_births_follow_by_their_intervals(root: Path) -> None:
    pl.DataFrame(
        {"id": [5.0] * 4 + [6.0] * 2, "parity": [0.0, 1.0, 2.0, 3.0, 0.0, 1.0],
         "age": [24.0, 25.0, 25.0, 29.0, 30.0, 31.0],
         "year": [1825.0, 1826.0, 1826.0, 1830.0, 1840.0, 1841.0],
         "prev_ivl": [None, 1.0, 0.0, 4.0, None, 1.0],
         "next_ivl": [1.0, 0.0, 4.0, 9.0, 1.0, 2.0], "event": [1.0, 1.0, 1.0, 0.0, 1.0, 0.0],
         "ses": ["farmer"] * 6, "parish": ["SKL"] * 6}
    ).write_parquet(root / "skelleftea_life_courses" / "fert.parquet")  # fmt: skip
    found = read("skelleftea-births")
    assert found.users is not None
    assert found.outcomes is not None
    first = found.events.filter(pl.col("user_id") == 5)
    assert first["event"].to_list() == ["marriage", "birth", "birth", "birth"]
    assert first["timestamp"].dt.date().to_list() == [
        date(1825, 7, 1), date(1826, 7, 1), date(1826, 7, 1), date(1830, 7, 1)
    ]  # fmt: skip
    assert found.users["birth"].dt.year().to_list() == [1800, 1809]
    # twins are one case; four years are too long; nothing for nine; two years are not enough to say
    assert found.outcomes["birth_within_three_years"].to_list() == [0.0, 0.0, None]


@pytest.mark.parametrize("source", READERS)
def test_a_missing_table_is_named(source: str, root: Path) -> None:
    from features.errors import InputError

    with pytest.raises(InputError, match=r"\.parquet"):
        read(source)
