"""Who is asked about, when, and what came of it: events and persons -> `Outcomes`.

    user_id, at, then a float column per label: a class number, or null where it is not known.

History is what happened before `at`; the outcome window is [at, at + window). A label looks at the
window alone, and what is settled there by an event counts even where the follow-up ends early.
"""

from datetime import datetime, time, timedelta

import polars as pl

from features.errors import InputError
from features.life_config import AtDate, GivenCases, LifeConfig, OutcomeConfig

PERSON, AT, TIME = "user_id", "at", "timestamp"


def find_cases(
    events: pl.DataFrame, users: pl.DataFrame | None, given: pl.DataFrame | None, config: LifeConfig
) -> pl.DataFrame:
    """The `Outcomes` of a cohort, by person and moment. Raises InputError when nobody is in it."""
    names = [outcome.name for outcome in config.outcomes]
    if isinstance(config.cohort, GivenCases):
        cases = _given_cases(given, names)
    else:
        cases = _cases_at_date(events, users, config, config.cohort)
    labels = [pl.col(name).cast(pl.Float32) for name in names]
    cases = cases.select(PERSON, AT, *labels).sort(PERSON, AT, maintain_order=True)
    known = cases.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in names))
    if known.is_empty():
        raise InputError(
            f"the cohort is empty: of {len(cases)} cases none has a known label; look at the "
            f"landmark, the window and the follow-up in [life.cohort]"
        )
    _check_labels(known, config)
    return known


def _given_cases(given: pl.DataFrame | None, names: list[str]) -> pl.DataFrame:
    if given is None:
        raise InputError("cohort 'given' needs an outcomes table, and the source has none")
    if missing := sorted({PERSON, AT, *names} - set(given.columns)):
        raise InputError(f"the outcomes table lacks {missing} (it has {given.columns})")
    if given[AT].dtype != pl.Datetime("us"):
        raise InputError(f"outcomes.at is {given[AT].dtype}, expected Datetime in microseconds")
    return given


def _cases_at_date(
    events: pl.DataFrame, users: pl.DataFrame | None, config: LifeConfig, cohort: AtDate
) -> pl.DataFrame:
    at = datetime.combine(cohort.at, time())
    end = at + timedelta(days=cohort.window_days)
    _check_columns(events, users, config)
    last = events[TIME].max()
    if not config.follow_up_end and isinstance(last, datetime) and last < end - timedelta(days=1):
        raise InputError(
            f"the outcome window ends {end:%Y-%m-%d}, the log {last:%Y-%m-%d}: choose an earlier "
            f"landmark or a shorter window, or name follow_up_end"
        )
    before, within = pl.col(TIME) < at, pl.col(TIME).is_between(at, end, closed="left")
    past = events.filter(before).group_by(PERSON).agg(n=pl.len(), latest=pl.col(TIME).max())
    past = past.filter(pl.col("n") >= cohort.min_events)
    if cohort.active_days:
        past = past.filter(pl.col("latest") >= at - timedelta(days=cohort.active_days))
    people = past.select(PERSON)
    for outcome in config.outcomes:
        if outcome.terminal:
            gone = events.filter(before & _matches(outcome)).select(PERSON)
            people = people.join(gone, on=PERSON, how="anti")
    if config.follow_up_end:
        assert users is not None
        ends = users.select(PERSON, follow_up_end=pl.col(config.follow_up_end))
        people = people.join(ends, on=PERSON, how="left")
        people = people.filter(pl.col("follow_up_end").is_null() | (pl.col("follow_up_end") >= at))
    else:
        people = people.with_columns(follow_up_end=pl.lit(None, pl.Datetime("us")))
    seen_out = pl.col("follow_up_end").is_null() | (
        pl.col("follow_up_end") >= end - timedelta(days=1)
    )
    cases = people.with_columns(at=pl.lit(at, pl.Datetime("us")), seen_out=seen_out)
    window = events.filter(within)
    for outcome in config.outcomes:
        cases = _with_label(cases, window, outcome)
    return cases


def _check_columns(events: pl.DataFrame, users: pl.DataFrame | None, config: LifeConfig) -> None:
    for outcome in config.outcomes:
        if outcome.column and outcome.column not in events.columns:
            raise InputError(
                f"outcome {outcome.name}: the events have no column {outcome.column} "
                f"(they have {events.columns})"
            )
    column = config.follow_up_end
    if column and (users is None or column not in users.columns):
        raise InputError(f"follow_up_end={column!r} is no column of the persons")


def _matches(outcome: OutcomeConfig) -> pl.Expr:
    if not outcome.values:
        return pl.lit(True)  # noqa: FBT003 - any event
    return pl.col(outcome.column).cast(pl.String).is_in(outcome.values)


def _with_label(cases: pl.DataFrame, window: pl.DataFrame, outcome: OutcomeConfig) -> pl.DataFrame:
    """Add the outcome's column. Follow-up that ends early settles only what has happened."""
    hits = window.filter(_matches(outcome))
    found = hits.group_by(PERSON).agg(number=pl.len())
    cases = cases.join(found, on=PERSON, how="left").with_columns(pl.col("number").fill_null(0))
    number, seen_out = pl.col("number"), pl.col("seen_out")
    match outcome.rule:
        case "event" | "no_event":
            hit, miss = (1.0, 0.0) if outcome.rule == "event" else (0.0, 1.0)
            unknown = miss if outcome.kind == "positive_unlabelled" else None
            label = (
                pl.when(number > 0).then(hit).when(seen_out).then(miss).otherwise(pl.lit(unknown))
            )
        case "count":
            reached = sum((number >= t).cast(pl.Int32) for t in outcome.thresholds)
            top = number >= outcome.thresholds[-1]
            label = pl.when(seen_out | top).then(reached)
        case "first_value":
            first = hits.group_by(PERSON, maintain_order=True).agg(
                first_value=pl.col(outcome.column).cast(pl.String).first()
            )
            cases = cases.join(first, on=PERSON, how="left")
            codes = dict(zip(outcome.values, range(len(outcome.values)), strict=True))
            label = pl.col("first_value").replace_strict(codes, default=None)
        case "given":
            raise AssertionError("refused by the configuration")
    named = cases.with_columns(label.cast(pl.Float32).alias(outcome.name))
    return named.drop("number", "first_value", strict=False)


def _check_labels(cases: pl.DataFrame, config: LifeConfig) -> None:
    for outcome in config.outcomes:
        found = cases[outcome.name].drop_nulls()
        wrong = found.filter((found < 0) | (found >= outcome.num_classes) | (found % 1 != 0))
        if len(wrong):
            raise InputError(
                f"outcome {outcome.name}: {len(wrong)} labels are none of the classes 0.."
                f"{outcome.num_classes - 1} (first {wrong.head(3).to_list()})"
            )
