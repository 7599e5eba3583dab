from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from features.errors import InputError
from offline_eval.off_policy import evaluate_policy
from offline_eval.policy_log import logged, read_frame

DAY = datetime(2026, 5, 1)


def log() -> pl.DataFrame:
    rows = [
        ("q1", "ada", "x", 1, 0.5, 1.0),
        ("q1", "ada", "y", 2, 0.5, 0.0),
        ("q2", "bob", "y", 1, 0.25, 0.0),
        ("q3", "ada", "x", 1, 0.5, 2.0),
    ]
    names = ["request_id", "user_id", "item_id", "rank", "propensity", "reward"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return frame.with_columns(at=pl.lit(DAY).cast(pl.Datetime("us")))


def policy(*rows: tuple) -> pl.DataFrame:
    names = ["request_id", "item_id", "rank", "probability", "expected_reward"]
    return pl.DataFrame(rows, schema=names[: len(rows[0])], orient="row")


PLAN = policy(
    ("q3", "x", 1, 0.5, 0.8),
    ("q1", "x", 1, 1.0, 0.5),
    ("q2", "z", 1, 1.0, 0.1),
    ("q9", "x", 1, 1.0, 0.1),  # a request that the log does not have
)


def test_values_by_hand() -> None:
    joined = logged(log(), PLAN, where="log", policy_where="policy")
    assert joined.target.tolist() == [1.0, 0.0, 0.0, 0.5]
    assert joined.filled.tolist() == [1.0, 1.0, 0.5]
    assert joined.absent == pytest.approx(1 / 2.5)  # z, which nobody was shown
    found = evaluate_policy(joined, resamples=20)
    assert found.requests == 3
    assert found.logged.value == pytest.approx((1 + 0 + 2) / 3)
    assert found.ips.value == pytest.approx((2 * 1 + 1 * 2) / 3)
    assert found.snips.value == pytest.approx(2.5 / 3 * (2 * 1 + 1 * 2) / (2 + 1))
    planned = 1.0 * 0.5 + 1.0 * 0.1 + 0.5 * 0.8
    robust = planned + 2 * (1 - 0.5) + 1 * (2 - 0.8)
    assert found.dr.value == pytest.approx(robust / 3)


def test_without_expected_rewards_they_are_predicted_out_of_fold() -> None:
    joined = logged(log(), PLAN.drop("expected_reward"), where="log", policy_where="policy")
    assert (joined.predicted >= 0).all()
    assert (joined.planned > 0).any()
    louder = log().with_columns(reward=pl.Series([1.0, 0.0, 50.0, 2.0]))  # bob's only
    other = logged(louder, PLAN.drop("expected_reward"), where="log", policy_where="policy")
    assert other.predicted[2] == joined.predicted[2], "bob's own reward was used to predict it"
    assert other.predicted[0] != joined.predicted[0]


def test_integer_ids_and_columns_that_ride_along_are_fine() -> None:
    numbers = {"x": 1, "y": 2, "z": 3}
    number = pl.col("item_id").replace_strict(numbers, return_dtype=pl.Int64)
    whole = log().with_columns(number, bundle=pl.lit("b1"))
    joined = logged(whole, PLAN.with_columns(number), where="log", policy_where="policy")
    assert joined.target.tolist() == [1.0, 0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN.filter(pl.col("request_id") != "q2"), r"no rows for 1 of 3 requests .*'q2'"),
        (PLAN.with_columns(probability=pl.lit(1.5)), "4 of 4 rows have a probability outside"),
        (pl.concat([PLAN, PLAN[:1]]), "1 of 5 rows repeat request, item and rank"),
        (
            pl.concat([PLAN, policy(("q1", "y", 1, 0.1, 0.0))]),
            "the chances of 1 ranks sum to more than 1",
        ),
        (PLAN.with_columns(expected_reward=None), "4 of 4 rows hold a null"),
        (PLAN.drop("rank"), "policy has no column rank"),
        (PLAN.with_columns(item_id=pl.lit(1)), "item_id of type Int32, expected String"),
    ],
)
def test_bad_policies_are_refused(plan: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        logged(log(), plan, where="log", policy_where="policy")


def test_a_bad_log_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have a propensity"):
        logged(log().with_columns(propensity=0.0), PLAN, where="log", policy_where="policy")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_frame(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_frame(tmp_path / "text.parquet")
