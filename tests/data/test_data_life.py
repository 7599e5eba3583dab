"""Tables of persons: your own files, MEDS shards, and public studies with what must not be in."""

import os
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from data.build import build_events
from data.life_config import LifeFiles, LifeStudy, MedsFiles, PersonFile
from features.errors import InputError

DATA = os.environ.get("RECSYS_DATA", "")


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def own_files(tmp_path: Path, events: str = "", persons: str = "") -> LifeFiles:
    events = (
        events or "who,when,code,amount\n2,2020-01-03,b,1.5\n1,2020-01-02,a,\n1,2020-01-01,a,2\n"
    )
    persons = persons or "who,sex,born\n1,f,1950-05-01\n2,m,\n"
    return LifeFiles(
        paths=(written(tmp_path / "events.csv", events),),
        user_id="who",
        timestamp="when",
        categories=("code",),
        numbers=("amount",),
        persons=PersonFile(
            paths=(written(tmp_path / "persons.csv", persons),),
            user_id="who",
            times=("born",),
            columns=("sex",),
        ),
    )


def test_own_tables_become_canonical_ones(tmp_path: Path) -> None:
    build_events(own_files(tmp_path), tmp_path / "events")
    events = pl.read_parquet(tmp_path / "events" / "events.parquet")
    assert events.columns == ["user_id", "timestamp", "amount", "code"]
    assert events["timestamp"].dtype == pl.Datetime("us")
    assert events["user_id"].to_list() == ["1", "1", "2"], "by person and time"
    assert events["amount"].to_list() == [2.0, None, 1.5]
    users = pl.read_parquet(tmp_path / "events" / "users.parquet")
    assert users["born"].to_list() == [datetime(1950, 5, 1), None]


BAD = {
    "a time that is none": (
        {"events": "who,when,code,amount\n1,yesterday,a,1\n"},
        "yesterday",
    ),
    "a number that is none": (
        {"events": "who,when,code,amount\n1,2020-01-01,a,much\n"},
        "much",
    ),
    "a person twice": ({"persons": "who,sex,born\n1,f,\n1,m,\n"}, "several rows"),
    "no person": ({"events": "who,when,code,amount\n,2020-01-01,a,1\n"}, "no user_id"),
    "another millennium": ({"events": "who,when,code,amount\n1,0001-01-01,a,1\n"}, "outside"),
    "no such column": ({"events": "who,day,code,amount\n1,2020-01-01,a,1\n"}, "no column when"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_one_sentence(case: str, tmp_path: Path) -> None:
    texts, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence):
        build_events(own_files(tmp_path, **texts), tmp_path / "events")
    assert not (tmp_path / "events").exists()


def test_meds_static_rows_become_columns_and_birth_is_no_event(tmp_path: Path) -> None:
    shard = pl.DataFrame(
        {
            "subject_id": [1, 1, 1, 2, 2],
            "time": [None, datetime(1980, 1, 1), datetime(2020, 1, 1), None, datetime(2020, 2, 1)],
            "code": ["GENDER//F", "MEDS_BIRTH", "LAB//GLUCOSE", "GENDER//M", "ADMISSION"],
            "numeric_value": [None, None, 5.5, None, None],
        },
        schema_overrides={"time": pl.Datetime("us")},
    )
    shard.write_parquet(tmp_path / "0.parquet")
    labels = pl.DataFrame(
        {
            "subject_id": [1, 2],
            "prediction_time": [datetime(2021, 1, 1)] * 2,
            "boolean_value": [True, False],
        }
    )
    labels.write_parquet(tmp_path / "labels.parquet")
    config = MedsFiles(
        paths=(str(tmp_path / "0.parquet"),), labels=(str(tmp_path / "labels.parquet"),)
    )
    build_events(config, tmp_path / "events")
    events = pl.read_parquet(tmp_path / "events" / "events.parquet")
    assert events["code"].to_list() == ["LAB//GLUCOSE", "ADMISSION"]
    assert events["value"].to_list() == [5.5, None]
    users = pl.read_parquet(tmp_path / "events" / "users.parquet").sort("user_id")
    assert users["gender"].to_list() == ["F", "M"]
    assert users["birth"].to_list() == [datetime(1980, 1, 1), None]
    outcomes = pl.read_parquet(tmp_path / "events" / "outcomes.parquet")
    assert outcomes.columns == ["user_id", "at", "label"]
    assert outcomes["label"].to_list() == [1.0, 0.0]


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="RECSYS_DATA names no folder of data sets")
def test_studies_leave_out_what_leaks(tmp_path: Path) -> None:
    frames = {}
    for source in ("physionet2012-icu", "danish-diabetes", "skelleftea-children"):
        build_events(LifeStudy(source=source), tmp_path / source)  # type: ignore[arg-type]
        frames[source] = {
            path.stem: pl.read_parquet(path) for path in (tmp_path / source).glob("*.parquet")
        }
    icu = frames["physionet2012-icu"]
    forbidden = {"saps_i", "sofa", "length_of_stay_days", "survival_days", "in_hospital_death"}
    assert not forbidden & set(icu["users"].columns)
    assert not forbidden & set(icu["events"]["parameter"].unique().str.to_lowercase())
    assert icu["users"]["age"].max() == 90
    assert icu["outcomes"]["in_hospital_death"].mean() == pytest.approx(0.139, abs=0.001)
    register = frames["danish-diabetes"]
    assert set(register["events"]["event"].unique()) == {"diagnosis", "oad", "insulin", "death"}
    assert len(register["users"]) == 10_000
    children = frames["skelleftea-children"]
    assert set(children["events"]["event"].unique()) == {"birth", "death", "moved"}
    assert children["outcomes"]["dies_before_five"].mean() == pytest.approx(0.161, abs=0.01)


def test_a_study_that_is_not_there_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    with pytest.raises(InputError, match="set RECSYS_DATA"):
        build_events(LifeStudy(source="danish-diabetes"), Path("nowhere"))
