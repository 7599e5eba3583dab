"""Ranking features of declared item columns: a ranker gets them unless its config names others.

As in `features.asof`: each is a name, a meaning and a function of the question; nan means
undefined.
"""

from functools import partial

import numpy as np

from features.layout import ItemColumn
from features.question import HALF_LIFE, Feature, Floats, Question, value_share
from features.timeline import DAY


def _number(q: Question, column: ItemColumn) -> Floats:
    return q.item_table[column.name].take(q.candidates_BC)


def _number_minus_history(q: Question, column: ItemColumn) -> Floats:
    values_H = q.item_table[column.name][q.items_H].astype(np.float64)
    known_H = ~np.isnan(values_H)
    sums_B, counts_B = (
        np.bincount(q.owner_H[known_H], weights, minlength=len(q.at_B))
        for weights in (values_H[known_H], None)
    )
    return _number(q, column) - (sums_B / counts_B)[:, None]


def _time_since(q: Question, column: ItemColumn) -> Floats:
    values = q.item_table[column.name].take(q.candidates_BC)
    age = (q.at_B[:, None] - values) / DAY
    age[values == 0] = np.nan
    return age


def column_features(column: ItemColumn) -> tuple[Feature, ...]:
    """The features of one declared item column."""
    name = column.name
    match column.kind:
        case "category" | "categories":
            share = partial(value_share, column=column, weighing="alike")
            recent = partial(value_share, column=column, weighing="recent")
            says = "share of the history's events of known value that carry the candidate's value"
            several = "" if column.kind == "category" else " (mean over its values)"
            return (
                Feature(f"{name}_share", says + several, share),
                Feature(f"{name}_recent_share", f"the same, half-life {HALF_LIFE} events", recent),
            )
        case "numeric":
            return (
                Feature(
                    name, "the candidate's value", partial(_number, column=column), of_item=True
                ),
                Feature(
                    f"{name}_minus_history",
                    "the candidate's value less the mean over the history's events",
                    partial(_number_minus_history, column=column),
                ),
            )
        case "timestamp":
            age = partial(_time_since, column=column)
            return (Feature(f"{name}_age", "days from the candidate's value to `at`", age),)
        case "text" | "sentence":
            return ()
