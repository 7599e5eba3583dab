"""An exposure log and a table of what a new policy would show -> `offline_eval.off_policy`.

The log's columns are in `features.exposures`. The policy table has a row for each item that the
new policy would show with some chance, for the requests of the log:

    request_id, item_id, rank
    probability       chance that the policy shows this item at this rank of this request
    expected_reward   optional, for all rows or none: a model's prediction, made without the log
"""

from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from features import exposures
from features.errors import InputError
from features.schema import check_exposures, check_types
from offline_eval.off_policy import Logged, shrunken_rewards

PROBABILITY = "probability"
EXPECTED = "expected_reward"
PLACE = [exposures.REQUEST_ID, exposures.ITEM_ID, exposures.RANK]
FOLDS = 5
"""The reward model of a fold of users is fitted on the other folds."""
SLACK = 1e-6
"""How far above 1 the chances of one rank may sum, for rounding."""
SHOWN = 3
"""Offenders named in an error."""


def read_frame(path: Path) -> pl.DataFrame:
    """A Parquet file; raises InputError where there is none."""
    try:
        return pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error})") from error


def logged(log: pl.DataFrame, policy: pl.DataFrame, *, where: str, policy_where: str) -> Logged:
    """Join log and policy. Raises InputError that names the first offenders and counts them all.

    Without `expected_reward` the rewards are predicted by `shrunken_rewards`, cross-fitted over
    five folds of users.
    """
    check_exposures(log, where)
    log = log.select(*exposures.COLUMNS)
    policy = check_policy(policy, log, where, policy_where)
    codes = _codes(log, policy)
    log, policy = (_encoded(frame, codes) for frame in (log, policy))
    fold_of_request = log.group_by("request").agg(fold=pl.col("user").first() % FOLDS)
    policy = policy.join(fold_of_request, on="request", how="left", validate="m:1")
    log = log.with_columns(fold=pl.col("user") % FOLDS)
    if EXPECTED not in policy.columns:
        log, policy = _predicted(log, policy)
    joined = log.join(
        policy.select("request", "item", exposures.RANK, PROBABILITY, expected=EXPECTED),
        on=["request", "item", exposures.RANK],
        how="left",
        validate="m:1",
        maintain_order="left",
    )
    target = joined[PROBABILITY].fill_null(0.0).to_numpy()
    own = pl.col("predicted") if "predicted" in joined.columns else pl.col("expected")
    sums = policy.group_by("request").agg(
        filled=pl.col(PROBABILITY).sum(), planned=(pl.col(PROBABILITY) * pl.col(EXPECTED)).sum()
    )
    requests = log.group_by("request").agg(pl.col("user").first()).join(
        sums, on="request", how="left", validate="1:1"
    ).sort("request")  # fmt: skip
    shown = policy["item"].is_in(log["item"].unique().implode()).to_numpy()
    chances = policy[PROBABILITY].to_numpy()
    return Logged(
        request=joined["request"].to_numpy(),
        user=requests["user"].to_numpy(),
        reward=joined[exposures.REWARD].cast(pl.Float64).to_numpy(),
        propensity=joined[exposures.PROPENSITY].cast(pl.Float64).to_numpy(),
        target=target,
        predicted=joined.select(own.fill_null(0.0)).to_series().to_numpy(),
        planned=requests["planned"].to_numpy(),
        filled=requests["filled"].to_numpy(),
        absent=float(chances[~shown].sum() / chances.sum()) if chances.sum() > 0 else 0.0,
    )


def check_policy(
    policy: pl.DataFrame, log: pl.DataFrame, where: str, policy_where: str
) -> pl.DataFrame:
    """The rows of the log's requests, or InputError: wrong columns, values, or requests missing."""
    kinds = {name: (log.schema[name],) for name in (exposures.REQUEST_ID, exposures.ITEM_ID)}
    floats = (pl.Float64, pl.Float32)
    check_types(policy, policy_where, kinds | {PROBABILITY: floats})
    check_types(policy, policy_where, {exposures.RANK: (pl.Int32, pl.Int64, pl.Int16, pl.Int8)})
    policy = policy.select(*PLACE, PROBABILITY, *([EXPECTED] if EXPECTED in policy.columns else []))
    chance = pl.col(PROBABILITY)
    wrong = {
        "hold a null": pl.any_horizontal(pl.all().is_null()),
        "have a probability outside 0..1": ~((chance >= 0) & (chance <= 1)),
        "repeat request, item and rank": ~pl.struct(PLACE).is_first_distinct(),
    }
    for sentence, fault in wrong.items():
        bad = policy.filter(fault)
        if len(bad):
            raise InputError(
                f"{policy_where}: {len(bad)} of {len(policy)} rows {sentence} (first: "
                f"{bad.row(0, named=True)})"
            )
    full = policy.group_by(exposures.REQUEST_ID, exposures.RANK).agg(total=chance.sum())
    over = full.filter(pl.col("total") > 1 + SLACK)
    if len(over):
        raise InputError(
            f"{policy_where}: the chances of {len(over)} ranks sum to more than 1 (first: "
            f"{over.row(0, named=True)}): a rank shows one item"
        )
    known = policy[exposures.REQUEST_ID].unique()
    asked = log[exposures.REQUEST_ID].unique(maintain_order=True)
    missing = asked.filter(~asked.is_in(known.implode()))
    if len(missing):
        raise InputError(
            f"{policy_where} has no rows for {len(missing)} of {len(asked)} requests of {where} "
            f"(first: {missing.head(SHOWN).to_list()}): say what the policy would show there"
        )
    return policy.filter(pl.col(exposures.REQUEST_ID).is_in(asked.implode()))


def _codes(log: pl.DataFrame, policy: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Row numbers from 0 for requests, users and items, in order of appearance in the log."""
    items = pl.concat([log[exposures.ITEM_ID], policy[exposures.ITEM_ID]])
    return {
        exposures.REQUEST_ID: _numbered(log[exposures.REQUEST_ID], "request"),
        exposures.USER_ID: _numbered(log[exposures.USER_ID], "user"),
        exposures.ITEM_ID: _numbered(items, "item"),
    }


def _numbered(ids: pl.Series, name: str) -> pl.DataFrame:
    return ids.unique(maintain_order=True).to_frame().with_row_index(name).cast({name: pl.Int64})


def _encoded(frame: pl.DataFrame, codes: dict[str, pl.DataFrame]) -> pl.DataFrame:
    for name, table in codes.items():
        if name in frame.columns:
            frame = frame.join(
                table, on=name, how="left", validate="m:1", maintain_order="left"
            ).drop(name)
    return frame


def _predicted(log: pl.DataFrame, policy: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`predicted` in the log and `expected_reward` in the policy, by the model of each fold."""
    arrays = {name: log[name].to_numpy() for name in ("item", exposures.RANK, "fold")}
    rewards = log[exposures.REWARD].cast(pl.Float64).to_numpy()
    models = shrunken_rewards(arrays["item"], arrays[exposures.RANK], rewards, arrays["fold"])
    known = int(arrays["item"].max()) + 1

    def by_fold(frame: pl.DataFrame) -> np.ndarray:
        item, rank, fold = (frame[name].to_numpy() for name in ("item", exposures.RANK, "fold"))
        item = np.where(item < known, item, -1)
        values = np.zeros(len(frame))
        for number, model in enumerate(models):
            own = fold == number
            values[own] = model.predict(item[own], rank[own])
        return values

    return (
        log.with_columns(predicted=pl.Series(by_fold(log))),
        policy.with_columns(pl.Series(EXPECTED, by_fold(policy))),
    )
