"""Each kind of bad table is refused with one sentence that names the rows; good ones pass."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from features.errors import InputError
from features.exposures import COLUMNS, exposure_schema
from features.schema import Events, Items, Users, check_events, check_exposures, check_items

DAY = datetime(2024, 5, 1)


def log(**columns: list) -> pl.DataFrame:
    good = {
        "user_id": [1, 2, 1, 2],
        "item_id": ["a", "b", "c", "a"],
        "timestamp": [DAY, DAY - timedelta(days=3), DAY, DAY],
        "event": ["view", "view", "buy", "view"],
    }
    return pl.DataFrame(good | columns).with_columns(pl.col("timestamp").cast(pl.Datetime("us")))


def test_a_good_log_passes_unchanged_eager_and_lazy() -> None:
    assert check_events(log(), "log") is not None
    lazy = log().lazy()
    assert check_events(lazy, "log") is lazy
    assert Events.is_valid(log())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            log().drop("item_id"),
            r"^log has no column item_id \(it has: user_id, timestamp, event\)",
        ),
        (
            log().cast({"user_id": pl.Float64}),
            "^log has column user_id of type Float64, expected Int64 or String: cast it",
        ),
        (log().cast({"timestamp": pl.Int64}), "column timestamp of type Int64, expected Datetime"),
        (
            log(user_id=[1, None, 1, None]),
            r"^log: 2 of 4 rows have no user_id.*row 2, user_id=None",
        ),
        (log(item_id=["a", "b", None, "a"]), "^log: 1 of 4 rows have no item_id.*row 3"),
        (log(event=["view", "", "buy", None]), "^log: 2 of 4 rows have no event"),
        (log(timestamp=[DAY, None, DAY, DAY]), "^log: 1 of 4 rows have no timestamp"),
        (
            log(timestamp=[DAY, DAY, DAY - timedelta(seconds=1), DAY]),
            "^log: 1 of 4 rows are older than the same user's row before.*row 3, user_id=1",
        ),
        (
            log(timestamp=[DAY, DAY, datetime(2199, 1, 1), DAY]),
            "^log: 1 of 4 rows are dated after .* in the future.*row 3, .*2199-01-01",
        ),
        (
            log(timestamp=[datetime(1969, 12, 31), DAY, DAY, DAY]),
            "^log: 1 of 4 rows are dated before 1970",
        ),
        (log().clear(), "^log is empty"),
    ],
)
def test_each_fault_is_one_sentence(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_events(frame, "log")
    assert "\n" not in str(caught.value)
    if "future" not in message:
        assert not Events.is_valid(frame) or "empty" in message or "Float" in message


def test_at_most_three_rows_are_shown() -> None:
    frame = pl.concat([log(event=[""] * 4)] * 100)
    with pytest.raises(InputError, match=r"^log: 400 of 400") as caught:
        check_events(frame, "log")
    assert str(caught.value).count("row ") == 3


def test_an_event_within_a_day_after_now_is_no_fault() -> None:
    check_events(log(), "log", now=DAY - timedelta(hours=23))
    with pytest.raises(InputError, match="future"):
        check_events(log(), "log", now=DAY - timedelta(hours=25))


def test_items_are_checked_against_their_declared_kinds() -> None:
    items = pl.DataFrame({"item_id": [1, 2], "title": ["a", None], "tags": [["x"], []]})
    kinds = {"title": "text", "tags": "categories"}
    check_items(items, "items", kinds)
    assert Items.is_valid(items)
    with pytest.raises(InputError, match=r"^items has column title of type List"):
        check_items(items.with_columns(title="tags"), "items", kinds)
    with pytest.raises(InputError, match=r"^items: 1 of 4 rows repeat an item_id.*row 3"):
        check_items(pl.DataFrame({"item_id": [1, 2, 1, 3]}), "items", {})
    assert not Users.is_valid(pl.DataFrame({"user_id": [1, 1]}))


def exposed(**columns: list) -> pl.DataFrame:
    good = {
        "request_id": ["q", "q", "r"],
        "at": [DAY, DAY, DAY],
        "user_id": ["ada", "ada", "bob"],
        "item_id": ["x", "y", "x"],
        "rank": [1, 2, 1],
        "propensity": [0.5, 0.25, 1.0],
        "reward": [1.0, 0.0, 0.0],
    }
    return pl.DataFrame(good | columns).with_columns(pl.col("at").cast(pl.Datetime("us")))


def test_a_good_exposure_log_passes_as_the_arrow_schema_writes_it() -> None:
    assert len(check_exposures(exposed(), "log")) == 3
    written = pl.DataFrame(exposed().to_arrow().cast(exposure_schema()))
    assert written.columns == list(COLUMNS)
    assert check_exposures(written, "log") is written
    assert exposure_schema(integer_ids=True).field("item_id").type == "int64"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"propensity": [0.5, 0.0, 1.0]}, r"1 of 3 rows have a propensity .* \(first: row 2"),
        ({"propensity": [0.5, float("nan"), 1.0]}, "have a propensity"),
        ({"propensity": [0.5, 0.5, 1.5]}, "have a propensity"),
        ({"reward": [1.0, 0.0, float("inf")]}, "reward that is no finite number"),
        ({"reward": [1.0, None, 0.0]}, "have no reward"),
        ({"rank": [0, 2, 1]}, "rank below 1"),
        ({"rank": [1, 1, 1]}, "1 of 3 rows fill a rank of a request that is filled already"),
        ({"user_id": [1.5, 2.5, 1.0]}, "user_id of type Float64, expected Int64 or String"),
    ],
)
def test_bad_exposures_are_refused(columns: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_exposures(exposed(**columns), "log")
