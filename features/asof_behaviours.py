"""Ranking features of single behaviours, for logs that have several: view, cart, buy.

As in `features.asof`: each is a name, a meaning and a function of the question; nan means
undefined. <e> stands for the name of a behaviour.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.question import Feature, Floats, Question
from features.timeline import DAY

SMOOTHING = 20
"""Events of average behaviour that are added to an item's own in a rate."""
WINDOW = 30
"""Days."""


def _user_share(q: Question, code: int) -> Floats:
    counts_B = np.bincount(q.owner_H[q.events_H == code], minlength=len(q.at_B))
    return np.where(q.lengths_B > 0, counts_B / np.maximum(q.lengths_B, 1), np.nan)[:, None]


def _seen(q: Question, code: int) -> tuple[NDArray[np.int64], Floats]:
    """How often the history has the behaviour on the candidate, and the last time, (B, C)."""
    keys_H, order_H = q.sorted_keys
    mine = q.events_H[order_H] == code
    keys, rows = keys_H[mine], order_H[mine]
    wanted_BC = q.candidates_BC + np.arange(len(q.at_B))[:, None] * q.key_width
    ends_BC = np.searchsorted(keys, wanted_BC, "right")
    count_BC = ends_BC - np.searchsorted(keys, wanted_BC)
    last_BC = np.full(count_BC.shape, np.nan)
    found = count_BC > 0
    last_BC[found] = q.timestamps_H[rows[ends_BC[found] - 1]]
    last_BC[last_BC == 0] = np.nan
    return count_BC, last_BC


def _times(q: Question, code: int) -> Floats:
    return _seen(q, code)[0].astype(np.float64)


def _days_since(q: Question, code: int) -> Floats:
    return np.maximum(q.at_B[:, None] - _seen(q, code)[1], 0) / DAY


def _in_window(q: Question, code: int, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Events of a behaviour on `items` in the window; code 0: of any."""
    if len(q.timeline.behaviours) < code:
        raise InputError(
            "the dataset has no timelines of single behaviours, as those of earlier releases: "
            "build it again, or leave out the features of behaviours"
        )
    timeline = q.timeline.behaviours[code - 1] if code else q.timeline
    rows = timeline.rows_before(items, np.stack([q.day, q.day - WINDOW]))
    until, before = timeline.total[rows]
    return until - before


def _item_events(q: Question, code: int) -> Floats:
    return np.log1p(_in_window(q, code, q.candidates_BC))


def _item_rate(q: Question, code: int) -> Floats:
    """(n_e + s p) / (n + s): towards p, the share of the behaviour among all events."""
    of_all = np.zeros_like(q.day)
    every = np.maximum(_in_window(q, 0, of_all), 1)
    average = _in_window(q, code, of_all) / every
    own, mine = q.totals[0] - q.totals[2], _in_window(q, code, q.candidates_BC)
    return (mine + SMOOTHING * average) / (own + SMOOTHING)


def behaviour_features(name: str, code: int) -> tuple[Feature, ...]:
    """The features of one behaviour."""
    of = partial(partial, code=code)
    return (
        Feature(f"user_{name}_share", f"share of the history that is {name}", of(_user_share)),
        Feature(f"seen_{name}", f"{name} on the candidate in the history", of(_times)),
        Feature(f"days_since_{name}", "days since the last of them", of(_days_since)),
        Feature(f"item_{name}_30d", f"ln(1 + {name} events in 30 days)", of(_item_events)),
        Feature(
            f"item_{name}_rate", f"smoothed share of {name} in its 30 days' events", of(_item_rate)
        ),
    )
