"""Ranking features of co-visitation: how often the candidate followed what is in the history.

As in `features.asof`: each is a name, a meaning and a function of the question; nan means
undefined. For datasets that count co-visits (`FeatureConfig.covisit_reach`).
"""

import numpy as np

from features.encode import window_rows
from features.question import HALF_LIFE, Feature, Floats, Question

RECENT = 10
"""Events of the history that are looked at."""
MAX_PAIRS = 1 << 19
"""Pairs of an event and a candidate that are looked up at once."""


def _last(q: Question) -> tuple[Floats, Floats]:
    """How often the candidate followed the history's last item, and how often anything did.

    (B, C) and (B, 1); nan where the history is empty.
    """
    assert q.timeline.covisits is not None
    if not len(q.items_H):
        return np.full(q.candidates_BC.shape, np.nan), np.full((len(q.at_B), 1), np.nan)
    last_B1 = q.items_H[np.maximum(q.ends_B - 1, 0)][:, None]
    pairs = q.timeline.covisits.count(last_B1, q.candidates_BC, q.day)
    every = q.timeline.covisits.count(last_B1, np.zeros_like(last_B1), q.day)
    empty_B1 = (q.lengths_B == 0)[:, None]
    return np.where(empty_B1, np.nan, pairs), np.where(empty_B1, np.nan, every)


def _covisits(q: Question) -> Floats:
    return np.log1p(_last(q)[0])


def _share(q: Question) -> Floats:
    pairs_BC, every_B1 = _last(q)
    return np.where(every_B1 > 0, pairs_BC / np.maximum(every_B1, 1), np.nan)


def _recent_share(q: Question) -> Floats:
    covisits = q.timeline.covisits
    assert covisits is not None
    if not len(q.items_H):
        return np.full(q.candidates_BC.shape, np.nan)
    rows_BL, real_BL = window_rows(q.starts_B, q.ends_B, RECENT)
    items_BL = q.items_H[rows_BL]
    every_BL = covisits.count(items_BL, np.zeros_like(items_BL), q.day)
    ages_BL = q.ends_B[:, None] - 1 - rows_BL
    weights_BL = np.where(real_BL & (every_BL > 0), 0.5 ** (ages_BL / HALF_LIFE), 0.0)
    shares_BL = weights_BL / np.maximum(every_BL, 1)
    sums_BC = np.zeros(q.candidates_BC.shape)
    step = max(MAX_PAIRS // max(q.candidates_BC.size, 1), 1)
    for first in range(0, items_BL.shape[1], step):
        some = slice(first, first + step)
        pairs_BLC = covisits.count(
            items_BL[:, some, None], q.candidates_BC[:, None, :], q.day[:, :, None]
        )
        sums_BC += (shares_BL[:, some, None] * pairs_BLC).sum(1)
    with np.errstate(invalid="ignore"):
        return sums_BC / weights_BL.sum(1, keepdims=True)


COVISIT_FEATURES: tuple[Feature, ...] = (
    Feature("covisits", "ln(1 + times that it followed the history's last item)", _covisits),
    Feature("covisit_share", "share of all that followed that item", _share),
    Feature(
        "covisit_recent_share",
        f"mean of that share over the last {RECENT} events, half-life {HALF_LIFE} events",
        _recent_share,
    ),
)
