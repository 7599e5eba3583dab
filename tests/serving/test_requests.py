"""Requests: what is understood, and what is refused in the caller's terms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.layout import DatasetSchema
from serving.catalogue import Catalogue
from serving.errors import RequestError
from serving.recommender import Recommender

CUTOFF = 1_700_000_000_000_000
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
MICROS = 1_704_067_200_000_000


@pytest.fixture(scope="module")
def recommender(toy: Any) -> Recommender:
    return Recommender.load(toy.path)


def test_moments_may_be_integers_or_datetimes(recommender: Recommender) -> None:
    read = recommender.reader.read
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    for moment in (MICROS, np.int64(MICROS), MOMENT, MOMENT.replace(tzinfo=None), east):
        request = read([(10, moment), (20, moment)], None)
        assert request.histories.timestamps.tolist() == [MICROS, MICROS]
        assert request.at.tolist() == [MICROS]
        assert read([10], moment).at.tolist() == [MICROS]


def test_without_a_moment_the_request_follows_the_history(recommender: Recommender) -> None:
    read = recommender.reader.read
    assert read([(10, 5), (20, 8)], None).at.tolist() == [8]
    assert read([10, 20], None).at.tolist() == [CUTOFF]
    assert read([10, 20], None).histories.timestamps.tolist() == [0, 0]  # unknown
    assert read([], None).at.tolist() == [CUTOFF]


def test_behaviours_become_codes(recommender: Recommender) -> None:
    request = recommender.reader.read([(10, 1, "view"), (20, 2, "buy")], None)
    assert request.histories.events.tolist() == [1, 2]
    assert recommender.reader.read([10], None).histories.events.tolist() == [2]  # the target


def test_numpy_ids_are_ids(recommender: Recommender) -> None:
    expected = recommender.recommend([10, 20])
    assert recommender.recommend([np.int64(10), np.int32(20)]) == expected
    assert recommender.recommend(np.array([10, 20])) == expected  # pyright: ignore


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ("10", "got str"),
        (10, "got int"),
        (None, "got NoneType"),
        ({10, 20}, "got set"),
        (["10"], "are int, got str"),
        ([10, None], "are int, got NoneType"),
        ([10, 20.0], "are int, got float"),
        ([True], "are int, got bool"),
        ([20, True], "are int, got bool"),
        ([10, [20]], "are int, got list"),
        ([(10, 1), 20], "all of them alike"),
        ([(10, 1), (20, 2, "buy")], "all of them alike"),
        ([(10,)], "all of them alike"),
        ([(10, 1, "buy", 4)], "all of them alike"),
        ([(10, float("nan"))], r"got nan \(float\)"),
        ([(10, 1.5)], r"got 1\.5 \(float\)"),
        ([(10, "today")], "got 'today'"),
        ([(10, True)], "got True"),
        ([(10, 2**70)], "64 bits"),
        ([(10, 5), (20, 4), (30, 3)], r"entry 1 is earlier than the one before it \(2 such"),
        ([(10, 1, "steal")], r"behaviour 'steal' is unknown, this bundle knows \['buy', 'view'\]"),
        ([(10, 1, ["buy"])], "is unknown"),
    ],
)
def test_malformed_histories_are_refused(
    recommender: Recommender, history: Any, reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        recommender.recommend(history)


def test_ids_far_from_any_known_one_are_unknown(recommender: Recommender) -> None:
    for strange in (-1, -(2**63), 601, 10**9, 2**63, 2**80):
        answer = recommender.recommend([20, strange, 30])
        assert answer.unknown == 1
        assert answer.items == recommender.recommend([20, 30]).items


def test_raw_ids_too_large_for_a_table_are_found_too(toy: Any) -> None:
    schema = DatasetSchema.read(toy.path)
    raw_ids: list[int | str] = [7, 10**15, 3]
    catalogue = Catalogue(schema, raw_ids, pl.DataFrame({"item_id": raw_ids}))
    assert catalogue.translate([10**15, 3, 4, 7]).tolist() == [2, 3, 0, 1]
    words = Catalogue(replace(schema, raw_item_type="str"), ["b", "a"], pl.DataFrame())
    assert words.translate(["a", "c", "b"]).tolist() == [2, 0, 1]
    with pytest.raises(RequestError, match="are str, got int"):
        words.translate([1])


@pytest.mark.parametrize("k", [0, -1, 1.0, "3", None, True])
def test_k_must_be_a_positive_integer(recommender: Recommender, k: Any) -> None:
    with pytest.raises(RequestError, match="must be an integer of at least 1"):
        recommender.recommend([10], k=k)


def test_an_absurd_k_is_answered_with_what_there_is(recommender: Recommender) -> None:
    assert len(recommender.recommend([10], k=10**12).items) == 59


def test_a_history_may_not_lie_in_the_future_of_its_request(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="after the request's own moment"):
        recommender.recommend([(10, 5)], at=4)
    with pytest.raises(RequestError, match="a timestamp is"):
        recommender.recommend([10], at=float("nan"))  # pyright: ignore[reportArgumentType]


def test_filters_are_collections_of_ids(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="got the string"):
        recommender.recommend([10], allow="10")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RequestError, match="are int, got str"):
        recommender.recommend([10], deny=["10"])
    allowed = recommender.recommend([10], allow={20, 30, 999}, deny=iter([30, 998]))
    assert [item.item_id for item in allowed.items] == [20]


def test_typed_ids_are_parsed(recommender: Recommender) -> None:
    assert recommender.parse_item_id("20") == 20
    with pytest.raises(RequestError, match="are int, got 'x'"):
        recommender.parse_item_id("x")


FRAME = pl.DataFrame({"user_id": ["a", "b", "a"], "item_id": [10, 20, 30], "timestamp": [1, 1, 2]})


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (FRAME.drop("user_id"), "lacks user_id"),
        (FRAME.with_columns(pl.col("item_id").cast(pl.String)), "item_id is String"),
        (FRAME.with_columns(item_id=pl.Series([10, None, 30])), "nulls: {'item_id': 1}"),
        (FRAME.with_columns(timestamp=pl.Series([1.0, 2.0, float("nan")])), "timestamp is Float64"),
        (FRAME.reverse(), "1 users are not oldest first, one is user 'a'"),
        (FRAME.with_columns(event=pl.lit("steal")), "'steal'"),
    ],
)
def test_malformed_frames_are_refused(
    recommender: Recommender, frame: pl.DataFrame, reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        recommender.recommend_many(frame)


def test_a_frame_may_have_datetimes_and_behaviours(recommender: Recommender) -> None:
    frame = FRAME.with_columns(
        timestamp=pl.from_epoch("timestamp", time_unit="us"), event=pl.lit("view")
    )
    request = recommender.reader.read_frame(frame)
    assert request.users.to_list() == ["a", "b"]
    assert request.histories.items.tolist() == [1, 3, 2]
    assert request.histories.timestamps.tolist() == [1, 2, 1]
    assert request.histories.events.tolist() == [1, 1, 1]
    assert request.at.tolist() == [2, 1]
    assert recommender.recommend_many(FRAME.head(0)).is_empty()
