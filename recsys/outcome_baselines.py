"""Simpler models of the same cases, to keep an outcome model honest.

    prevalence   the share of each class among the training labels
    life_table   logistic regression on age at the landmark and background alone
    logistic     logistic regression on token counts, last values and background
    lightgbm     boosted trees on counts, first, last, least, greatest and mean values, and times

They see exactly what the model sees: events before the landmark, fitted on the training persons;
the validation persons choose the strength of the penalty and the number of trees.

Shape suffixes: B cases, F features, K classes, S series, V tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.life_layout import DAY, NO_BIRTH, YEAR
from features.life_store import Lives

Floats = NDArray[np.float64]
PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""Inverse strengths that the validation cases choose from."""
TREES, PATIENCE = 400, 30
SUMMARIES = ("first", "last", "least", "greatest", "mean")


@dataclass(frozen=True, slots=True)
class CaseTable:
    """Numbers of every case, nan where there is none."""

    who: Floats
    """(B, .) age at the landmark and one column a background token."""
    counts: Floats
    """(B, V) occurrences of each token."""
    values: Floats
    """(B, 5 S) summaries of each numeric series, in the order of SUMMARIES."""
    times: Floats
    """(B, 3) number of events, days since the last, days since the first."""

    @property
    def simple(self) -> Floats:
        """What logistic regression takes: logged counts, last values and whether there is one."""
        last = self.values.reshape(len(self.values), len(SUMMARIES), -1)[:, SUMMARIES.index("last")]
        parts = [self.who, np.log1p(self.counts), last, np.isnan(last), self.times]
        return np.concatenate(parts, axis=1).astype(np.float64)

    @property
    def full(self) -> Floats:
        """What trees take."""
        return np.concatenate([self.who, self.counts, self.values, self.times], axis=1)


def tabulate(data: Lives) -> CaseTable:
    """Numbers of every case of a dataset."""
    cases, users, schema = data.cases, data.users, data.schema
    user, at, cut = cases["user"], cases["at"], cases["cut"]
    start = users["start"][user]
    birth = users["birth"][user]
    age = np.where(birth == NO_BIRTH, np.nan, (at - birth) / YEAR)
    background = users["background"][:, : len(schema.background)][user]
    codes = np.unique(background[background > 0])
    who = [age[:, None], *((background == code).any(1)[:, None] for code in codes)]
    counts = np.zeros((len(user), schema.num_tokens))
    for case in range(len(user)):
        seen = data.tokens[start[case] : cut[case]].ravel()
        counts[case] = np.bincount(seen, minlength=schema.num_tokens)
    counts[:, 0] = 0
    any_event = cut > start
    stamps = data.timestamps if len(data.timestamps) else np.zeros(1, np.int64)
    last = np.where(any_event, stamps[np.maximum(cut - 1, 0)], at)
    first = np.where(any_event, stamps[np.minimum(start, len(stamps) - 1)], at)
    times = np.stack([cut - start, (at - last) / DAY, (at - first) / DAY], axis=1)
    return CaseTable(
        np.concatenate(who, axis=1).astype(np.float64),
        counts,
        summarise_values(data),
        times.astype(np.float64),
    )


def summarise_values(data: Lives) -> Floats:
    """First, last, least, greatest and mean of each series before each landmark, (B, 5 S)."""
    cases, values = data.cases, data.values
    num = len(data.schema.series)
    found = np.full((len(cases["user"]), len(SUMMARIES), num), np.nan)
    bounds = np.searchsorted(values["user"], np.arange(len(data.users["start"]) + 1))
    for case, (user, at) in enumerate(zip(cases["user"], cases["at"], strict=True)):
        rows = slice(bounds[user], bounds[user + 1])
        end = rows.start + int(np.searchsorted(values["timestamp"][rows], at))
        series, value = values["series"][rows.start : end], values["value"][rows.start : end]
        if not len(series):
            continue
        order = np.argsort(series, kind="stable")
        series, value = series[order], value[order].astype(np.float64)
        first = np.flatnonzero(np.append(True, series[1:] != series[:-1]))
        last = np.append(first[1:], len(series)) - 1
        total = np.add.reduceat(value, first)
        found[case][:, series[first]] = [
            value[first],
            value[last],
            np.minimum.reduceat(value, first),
            np.maximum.reduceat(value, first),
            total / (last - first + 1),
        ]
    return found.reshape(len(found), -1)


@dataclass(frozen=True, slots=True)
class Parts:
    """One outcome's cases: rows to train and validate on, labels, classes."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    label: NDArray[np.int64]
    """(B,) of every case; -1 where not known."""
    classes: int
    seed: int


def columns_of(p_BK: Floats, present: NDArray[np.int64], classes: int) -> Floats:
    """(B, 1) probability of class 1, or (B, K); a class that training lacks gets 0."""
    full_BK = np.zeros((len(p_BK), classes))
    full_BK[:, present] = p_BK
    return full_BK[:, 1:] if classes == 2 else full_BK


def _filled(x_BF: Floats, train: NDArray[np.int64]) -> Floats:
    """Missing numbers become the training mean, columns without any become 0."""
    known = ~np.isnan(x_BF[train])
    mean_F = np.where(known, x_BF[train], 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(np.isnan(x_BF), mean_F, x_BF)


def _logistic(x_BF: Floats, parts: Parts) -> Floats:
    x_BF, label = _filled(x_BF, parts.train), parts.label
    best, kept = np.inf, None
    for strength in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        model.fit(x_BF[parts.train], label[parts.train])
        place = np.searchsorted(model.classes_, label[parts.validation])
        p_BK = model.predict_proba(x_BF[parts.validation])
        sure = p_BK[np.arange(len(place)), np.minimum(place, p_BK.shape[1] - 1)]
        loss = -np.log(np.maximum(sure, 1e-12)).mean()
        if loss < best:
            best, kept = loss, model
    assert kept is not None
    return columns_of(kept.predict_proba(x_BF), kept.classes_, parts.classes)


def prevalence(table: CaseTable, parts: Parts) -> Floats:
    """Everybody alike."""
    share_K = np.bincount(parts.label[parts.train], minlength=parts.classes) / len(parts.train)
    return columns_of(
        np.tile(share_K, (len(table.who), 1)), np.arange(parts.classes), parts.classes
    )


def life_table(table: CaseTable, parts: Parts) -> Floats:
    """Age and background alone."""
    return _logistic(np.concatenate([table.who, table.who[:, :1] ** 2], axis=1), parts)


def logistic(table: CaseTable, parts: Parts) -> Floats:
    """Counts, last values, background."""
    return _logistic(table.simple, parts)


def lightgbm(table: CaseTable, parts: Parts) -> Floats:
    """Boosted trees on every number of the table, stopped on the validation cases."""
    x_BF = table.full.astype(np.float32)
    data = lgb.Dataset(x_BF[parts.train], parts.label[parts.train])
    held = lgb.Dataset(x_BF[parts.validation], parts.label[parts.validation], reference=data)
    binary = parts.classes == 2
    parameters = {
        "objective": "binary" if binary else "multiclass",
        "num_leaves": 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": parts.seed,
        "deterministic": True,
        "num_threads": 1,
        "verbosity": -1,
        **({} if binary else {"num_class": parts.classes}),
    }
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    booster = lgb.train(parameters, data, TREES, valid_sets=[held], callbacks=[stop])
    found = np.asarray(booster.predict(x_BF, num_iteration=booster.best_iteration))
    return found[:, None] if binary else found


OUTCOME_BASELINES: dict[str, Callable[[CaseTable, Parts], Floats]] = {
    "prevalence": prevalence,
    "life_table": life_table,
    "logistic": logistic,
    "lightgbm": lightgbm,
}
