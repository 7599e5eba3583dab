"""Cohorts: who is at risk, what the window says, and what is not known."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from features.cohorts import find_cases
from features.errors import InputError
from features.life_config import AtDate, LifeConfig, LifeField, OutcomeConfig

AT = datetime(2020, 1, 1)
DAY = timedelta(days=1)
END = 100  # days


def events_of(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    """Person, days from the landmark, code; and one person who fills the log to its end."""
    rows = [*rows, ("z", -1, "other"), ("z", END, "other")]
    return pl.DataFrame(
        {
            "user_id": [r[0] for r in rows],
            "timestamp": [AT + r[1] * DAY for r in rows],
            "code": [r[2] for r in rows],
        },
        schema_overrides={"timestamp": pl.Datetime("us")},
    ).sort("user_id", "timestamp", maintain_order=True)


def labels(
    rows: list[tuple[str, int, str]],
    outcome: OutcomeConfig,
    users: pl.DataFrame | None = None,
    cohort: AtDate | None = None,
) -> dict[str, float | None]:
    config = LifeConfig(
        fields=(LifeField(name="code"),),
        outcomes=(outcome,),
        cohort=cohort or AtDate(at=date(2020, 1, 1), window_days=END),
        follow_up_end="exit" if users is not None else "",
    )
    found = find_cases(events_of(rows), users, None, config)
    return {r[0]: r[2] for r in found.rows() if r[0] != "z"}


def exits(**days: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": [*days, "z"], "exit": [AT + d * DAY for d in [*days.values(), 999]]},
        schema_overrides={"exit": pl.Datetime("us")},
    )


DEATH = OutcomeConfig(name="death", rule="event", column="code", values=("death",), terminal=True)
PAST = [("a", -5, "visit"), ("b", -5, "visit"), ("c", -5, "visit"), ("d", -5, "visit")]


def test_the_window_is_half_open() -> None:
    rows = [*PAST, ("a", 0, "death"), ("b", END - 1, "death"), ("c", END, "death")]
    assert labels(rows, DEATH) == {"a": 1, "b": 1, "c": 0, "d": 0}


def test_the_dead_are_not_at_risk_and_the_unborn_have_no_case() -> None:
    rows = [*PAST, ("a", -1, "death"), ("e", 3, "visit")]
    assert labels(rows, DEATH) == {"b": 0, "c": 0, "d": 0}


def test_censoring_leaves_a_label_unknown_unless_it_is_settled() -> None:
    users = exits(a=50, b=50, c=200, d=-2)
    rows = [*PAST, ("a", 20, "death")]
    assert labels(rows, DEATH, users) == {"a": 1, "c": 0}  # b is censored, d left before
    unlabelled = OutcomeConfig(
        name="death",
        rule="event",
        kind="positive_unlabelled",
        column="code",
        values=("death",),
    )
    assert labels(rows, unlabelled, users) == {"a": 1, "b": 0, "c": 0}


def test_churn_is_no_event_of_those_who_were_active() -> None:
    rows = [("a", -5, "visit"), ("b", -50, "visit"), ("c", -5, "visit"), ("c", 3, "visit")]
    churn = OutcomeConfig(name="churn", rule="no_event")
    active = AtDate(at=date(2020, 1, 1), window_days=END, active_days=30)
    assert labels(rows, churn, cohort=active) == {"a": 1, "c": 0}
    assert labels(rows, churn) == {"a": 1, "b": 1, "c": 0}


def test_counts_are_classes_and_the_first_value_is_one() -> None:
    rows = [*PAST, ("a", 1, "buy"), ("b", 1, "buy"), ("b", 2, "buy"), ("b", 3, "buy")]
    count = OutcomeConfig(
        name="bought",
        rule="count",
        kind="ordinal",
        column="code",
        values=("buy",),
        thresholds=(1, 3),
    )
    assert labels(rows, count) == {"a": 1, "b": 2, "c": 0, "d": 0}
    rows = [*PAST, ("a", 5, "y"), ("a", 2, "x"), ("b", 7, "y"), ("c", 1, "w")]
    first = OutcomeConfig(
        name="next", rule="first_value", kind="multi_class", column="code", values=("x", "y")
    )
    assert labels(rows, first) == {"a": 0, "b": 1}


def test_labels_that_are_no_class_are_refused() -> None:
    given = pl.DataFrame({"user_id": ["a"], "at": [AT], "sick": [7]})
    given = given.with_columns(pl.col("at").cast(pl.Datetime("us")))
    config = LifeConfig(fields=(LifeField(name="code"),), outcomes=(OutcomeConfig(name="sick"),))
    with pytest.raises(InputError, match="none of the classes"):
        find_cases(events_of(PAST), None, given, config)
