"""What was shown to whom with which probability, and what came of it.

    exposures-*.parquet   one row an item shown: EXPOSURES
    feedback-*.parquet    one row an event that came back: FEEDBACK

`read_exposures` joins the two into the exposure log of `features.exposures`, which off-policy
evaluation, drift reports and retraining read. Ids are text, whatever type the catalogue has.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl

from features import exposures as names
from features.errors import InputError
from serving.parquet_log import ParquetLog

MOMENT = pl.Datetime("us")
"""UTC, as everywhere."""
EXPOSURES = pl.Schema(
    {
        names.REQUEST_ID: pl.String(),
        names.AT: MOMENT,
        names.USER_ID: pl.String(),
        names.ITEM_ID: pl.String(),
        names.RANK: pl.Int32(),
        names.PROPENSITY: pl.Float64(),
        "given_above": pl.Float64(),
        "score": pl.Float64(),
        "source": pl.String(),
        "bundle_version": pl.String(),
        "degraded": pl.List(pl.String()),
    }
)
"""rank: from 1. propensity: the chance before drawing, null where the policy does not know it; 1
where nothing is drawn. given_above: the same given the items above, whose product is the chance of
the list. user_id: null for an anonymous request."""
FEEDBACK = pl.Schema(
    {
        names.REQUEST_ID: pl.String(),
        names.AT: MOMENT,
        names.USER_ID: pl.String(),
        names.ITEM_ID: pl.String(),
        "event": pl.String(),
    }
)
"""request_id: of the answer the event came from, where the caller says so."""


def open_exposures(directory: Path, *, seconds: float = 60.0) -> ParquetLog:
    """The log of items shown."""
    return ParquetLog(directory, "exposures", EXPOSURES, seconds=seconds)


def open_feedback(directory: Path, *, seconds: float = 60.0) -> ParquetLog:
    """The log of events that came back."""
    return ParquetLog(directory, "feedback", FEEDBACK, seconds=seconds)


def read_exposures(
    directory: Path,
    rewards: Mapping[str, float],
    *,
    window: timedelta = timedelta(days=1),
) -> pl.DataFrame:
    """Every item shown, and `reward`: the sum over the events it led to. Sorted by time.

    rewards: what an event of each behaviour is worth; behaviours not named are worth nothing. An
    event that names a request belongs to that request's exposure of the item; any other event of a
    user to the latest exposure of the item to that user in the `window` before it (last touch). An
    exposure without events has reward 0. An anonymous request becomes a user of its own, named
    `anonymous:` and the request. Raises InputError for a directory without exposures.
    """
    shown = _read(directory, "exposures", EXPOSURES)
    if shown.is_empty():
        raise InputError(f"{directory} holds no exposures-*.parquet: was the log switched on?")
    shown = shown.sort("at", "request_id", "rank").with_row_index("exposure")
    values = {name: float(value) for name, value in rewards.items()}
    worth = pl.col("event").replace_strict(values, default=0.0, return_dtype=pl.Float64)
    feedback = _read(directory, "feedback", FEEDBACK).with_columns(worth=worth)
    feedback = feedback.filter(pl.col("worth") != 0).sort("at")
    exposure = shown.select("exposure", "request_id", "user_id", "item_id", shown_at="at")
    named = feedback.filter(pl.col("request_id").is_not_null()).join(
        exposure.unique(["request_id", "item_id"], keep="first"),
        on=["request_id", "item_id"],
    )
    unnamed = feedback.filter(
        pl.col("request_id").is_null() & pl.col("user_id").is_not_null()
    ).join_asof(
        exposure.filter(pl.col("user_id").is_not_null()).sort("shown_at"),
        left_on="at",
        right_on="shown_at",
        by=["user_id", "item_id"],
        strategy="backward",
        tolerance=window,
        check_sortedness=False,
    )
    gains = (
        pl.concat([named.select("exposure", "worth"), unnamed.select("exposure", "worth")])
        .drop_nulls("exposure")
        .group_by("exposure")
        .agg(reward=pl.col("worth").sum())
    )
    joined = shown.join(gains, on="exposure", how="left", maintain_order="left")
    nobody = pl.format("anonymous:{}", pl.col(names.REQUEST_ID))
    return joined.drop("exposure").with_columns(
        pl.col(names.REWARD).fill_null(0.0), pl.col(names.USER_ID).fill_null(nobody)
    )


def _read(directory: Path, kind: str, schema: pl.Schema) -> pl.DataFrame:
    paths = sorted(directory.glob(f"{kind}-*.parquet"))
    if not paths:
        return pl.DataFrame(schema=schema)
    try:
        return pl.scan_parquet(paths, schema=schema, missing_columns="insert").collect()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{directory}: a {kind} file does not fit the schema: {error}") from error
