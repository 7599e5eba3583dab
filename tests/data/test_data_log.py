"""A log of one's own: the same rows in three formats, and every way of being unusable."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from data.config import DataConfig, ItemFile, LogFiles, UserFile
from data.log import load
from features.errors import InputError

COLUMNS = {"user_id": "who", "item_id": "sku", "timestamp": "at", "event": "action"}
ROWS = {
    "who": ["ada", "ben", "ada"],
    "sku": [7, 8, 9],
    "at": [1_700_000_000, 1_700_000_000, 1_700_000_060],
    "action": ["view", "buy", "view"],
    "unused": [1, 2, 3],
}
LOG = pl.DataFrame(ROWS)
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "csv": lambda frame, path: frame.write_csv(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
    "jsonl": lambda frame, path: frame.write_ndjson(path),
}


def log(folder: Path, frame: pl.DataFrame = LOG, name: str = "log.parquet") -> LogFiles:
    """Write `frame`, and say how it is read."""
    WRITERS[name.rpartition(".")[2]](frame, folder / name)
    return LogFiles(paths=(str(folder / name),), columns=COLUMNS)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_events(suffix: str, tmp_path: Path) -> None:
    tables = load(log(tmp_path, name=f"log.{suffix}"))
    start = datetime(2023, 11, 14, 22, 13, 20)
    assert tables.events.to_dict(as_series=False) == {
        "user_id": ["ada", "ben", "ada"],
        "item_id": [7, 8, 9],
        "timestamp": [start, start, start + timedelta(minutes=1)],
        "event": ["view", "buy", "view"],
    }
    assert tables.events.schema["timestamp"] == pl.Datetime("us")
    assert len(tables.raw_files) == 1


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1_700_000_000.25),
        ("s", "1700000000.25"),
        ("ms", 1_700_000_000_250),
        ("us", 1_700_000_000_250_000),
        ("us", "1700000000250000"),
        ("iso", "2023-11-14T22:13:20.250Z"),
        ("iso", "2023-11-14 22:13:20.25"),
        ("iso", "2023-11-15T00:13:20.250+02:00"),
    ],
)
def test_units_of_time(unit: str, value: object, tmp_path: Path) -> None:
    config = log(tmp_path, LOG.head(1).with_columns(at=pl.lit(value)))
    config = TypeAdapter(DataConfig).validate_python(
        {"source": "log", "paths": config.paths, "columns": COLUMNS, "timestamp": unit}
    )
    assert isinstance(config, LogFiles)
    found = load(config).events["timestamp"][0]
    assert found == datetime(2023, 11, 14, 22, 13, 20, 250_000)


def test_a_typed_time_with_a_zone_becomes_utc(tmp_path: Path) -> None:
    zoned = pl.Series([datetime(2024, 1, 1, 1)] * 3).dt.replace_time_zone("Europe/Paris")
    config = log(tmp_path, LOG.with_columns(at=zoned.dt.cast_time_unit("ms")))
    assert load(config).events["timestamp"][0] == datetime(2024, 1, 1, 0)


def test_without_a_behaviour_column_the_default_is_used(tmp_path: Path) -> None:
    config = log(tmp_path, LOG.drop("action"))
    columns = {name: theirs for name, theirs in COLUMNS.items() if name != "event"}
    tables = load(replace(config, columns=columns, event_default="play"))
    assert tables.events["event"].unique().to_list() == ["play"]


def test_a_glob_of_files_is_one_log_in_the_order_of_names(tmp_path: Path) -> None:
    late = LOG.with_columns(at=pl.col("at") + 3_600)
    log(tmp_path, late, "part-2.csv")
    log(tmp_path, LOG, "part-1.parquet")
    config = LogFiles(paths=(str(tmp_path / "part-*"),), columns=COLUMNS)
    assert load(config).events["item_id"].to_list() == [7, 8, 9, 7, 8, 9]


@pytest.mark.parametrize("order", ["require", "sort"])
def test_files_that_together_go_back_in_time(order: str, tmp_path: Path) -> None:
    log(tmp_path, LOG.with_columns(at=pl.col("at") + 3_600), "part-1.csv")
    log(tmp_path, LOG, "part-2.csv")
    config = LogFiles(paths=(str(tmp_path / "*.csv"),), columns=COLUMNS)
    if order == "sort":
        assert load(replace(config, order="sort")).events["timestamp"].is_sorted()
    else:
        with pytest.raises(InputError, match=r"the log of 2 files.*older than the same user's"):
            load(config)


def test_sorting_keeps_ties_in_the_order_of_the_file(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"who": ["a"] * 4, "sku": [4, 2, 9, 1], "at": [20, 10, 10, 20], "action": ["v"] * 4}
    )
    config = replace(log(tmp_path, frame), order="sort")
    assert load(config).events["item_id"].to_list() == [2, 9, 4, 1]


def test_ids_of_digits_stay_texts_where_the_file_types_them_so(tmp_path: Path) -> None:
    texts = LOG.with_columns(pl.col("sku").cast(pl.String))
    assert load(log(tmp_path, texts)).events["item_id"].to_list() == ["7", "8", "9"]
    assert load(log(tmp_path, texts, "log.csv")).events["item_id"].to_list() == [7, 8, 9]


def test_ids_that_numbers_would_change_stay_texts(tmp_path: Path) -> None:
    zeros = LOG.with_columns(sku=pl.Series(["007", "8", "9"]))
    assert load(log(tmp_path, zeros, "log.csv")).events["item_id"].to_list() == ["007", "8", "9"]


def test_items_and_users_beside_the_log(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "sku,name,path,price,since,rest\n7,Pen,Desk|Writing,1.5,1600000000,x\nA8,,,,,\n"
    )
    (tmp_path / "users.jsonl").write_text('{"who": "ada", "age": 36}\n')
    items = ItemFile(
        paths=(str(tmp_path / "items.csv"),),
        item_id="sku",
        columns={"name": "text", "path": "categories", "price": "numeric", "since": "timestamp"},
    )
    users = UserFile(paths=(str(tmp_path / "users.jsonl"),), user_id="who", columns=("age",))
    tables = load(replace(log(tmp_path), items=items, users=users))
    assert tables.items is not None
    assert tables.items.rows() == [
        ("7", "Pen", ["Desk", "Writing"], 1.5, datetime(2020, 9, 13, 12, 26, 40)),
        ("A8", None, None, None, None),
    ]
    assert tables.title_column == "name"
    assert tables.users is not None
    assert tables.users.rows() == [("ada", 36)]
    assert tables.events["item_id"].to_list() == ["7", "8", "9"]  # texts, as A8 is no number


FUTURE = round((datetime.now() + timedelta(days=400)).timestamp())
BAD_LOGS = {
    "has no column at for timestamp": LOG.drop("at"),
    r"1 of 3 rows have no user_id.*row 2": LOG.with_columns(who=pl.Series(["ada", None, "ada"])),
    r"1 of 3 rows have no item_id.*row 3": LOG.with_columns(sku=pl.Series([7, 8, None])),
    r"1 of 3 rows have no timestamp": LOG.with_columns(at=pl.Series([None, 8, 9])),
    r"1 of 3 rows have no event": LOG.with_columns(action=pl.Series(["view", None, "buy"])),
    "user_id of type Float64, expected whole numbers or texts": LOG.with_columns(who=pl.lit(0.5)),
    "timestamp of type Boolean, expected": LOG.with_columns(at=pl.lit(value=True)),
    r"1 of 3 rows have a timestamp that is not a number of s since 1970 \(first: row 2, 'noon'\)": (
        LOG.with_columns(at=pl.Series(["1", "noon", "3"]))
    ),
    "event of type Float64": LOG.with_columns(action=pl.lit(0.5)),
    r"1 of 3 rows are older than the same user's row before them.*row 3": LOG.with_columns(
        at=pl.Series([9, 9, 8])
    ),
    r"3 of 3 rows are dated after .* in the future": LOG.with_columns(at=pl.lit(FUTURE)),
    "3 of 3 rows are dated before 1970": LOG.with_columns(at=pl.lit(-5)),
    "is empty": LOG.head(0),
}


@pytest.mark.parametrize("message", BAD_LOGS)
def test_a_bad_log_is_one_sentence_that_names_the_file(message: str, tmp_path: Path) -> None:
    config = log(tmp_path, BAD_LOGS[message], "mine.parquet")
    with pytest.raises(InputError, match=rf"mine\.parquet.*{message}"):
        load(config)


@pytest.mark.parametrize("content", ["", "who,sku,at,action\n"])
def test_an_empty_csv_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(InputError, match=r"log\.csv is empty"):
        load(LogFiles(paths=(str(tmp_path / "log.csv"),), columns=COLUMNS))


def test_the_file_with_the_fault_is_named_among_several(tmp_path: Path) -> None:
    log(tmp_path, LOG, "a.csv")
    log(tmp_path, LOG.with_columns(sku=pl.Series([7, None, 9])), "b.csv")
    config = LogFiles(paths=(str(tmp_path / "*.csv"),), columns=COLUMNS)
    with pytest.raises(InputError, match=r"b\.csv: 1 of 3 rows have no item_id"):
        load(config)
    with pytest.raises(InputError, match=r"b\.csv: 1 of 3 rows .*file_row=2"):
        load(replace(config, order="sort"))


def test_files_of_one_log_need_the_same_columns(tmp_path: Path) -> None:
    columns = {name: theirs for name, theirs in COLUMNS.items() if name != "event"}
    log(tmp_path, LOG.rename({"action": "event"}), "a.csv")
    log(tmp_path, LOG, "b.csv")
    with pytest.raises(InputError, match=r"b\.csv and .*a\.csv differ in event"):
        load(LogFiles(paths=(str(tmp_path / "*.csv"),), columns=columns))


def test_no_file_unknown_format_and_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches data\.paths = .*\*\.csv"):
        load(LogFiles(paths=(str(tmp_path / "*.csv"),)))
    (tmp_path / "log.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"log\.xlsx is of no known format"):
        load(LogFiles(paths=(str(tmp_path / "log.xlsx"),)))
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"log\.parquet cannot be read"):
        load(LogFiles(paths=(str(tmp_path / "log.parquet"),)))


def test_repeated_items_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [1, 1], "name": ["a", "b"]}).write_parquet(tmp_path / "i.parquet")
    items = ItemFile(paths=(str(tmp_path / "i.parquet"),), columns={"name": "text"})
    with pytest.raises(InputError, match=r"i\.parquet: 1 of 2 rows repeat an item_id"):
        load(replace(log(tmp_path), items=items))


@pytest.mark.parametrize(
    "content",
    [
        {"source": "log", "paths": ["x"], "colums": {}},
        {"source": "log", "paths": ["x"], "columns": {"user": "who"}},
        {"source": "log", "paths": ["x"], "timestamp": "ns"},
        {"source": "log"},
        {"source": "lgo", "paths": ["x"]},
        {"source": "movielens-1m", "folder": "x"},
        {"source": "synthetic", "num_items": 100},
        {"source": "log", "paths": ["x"], "items": {"paths": ["y"], "columns": {"a": "txt"}}},
        {"source": "log", "paths": ["x"], "items": {"paths": ["y"], "columns": {}, "title": "a"}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DataConfig).validate_python(content)
