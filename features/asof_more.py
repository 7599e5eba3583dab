"""Ranking features that a config asks for by name, beside those that every ranker gets.

As in `features.asof`: each is a name, a meaning and a function of the question; nan means
undefined. User: activity in windows, variety. Session: the run of events up to now. Item and
context: weekday and hour, and the item's weekday. User and attribute: how long since the
candidate's value, its share in the session, overlap of texts, distance in price.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from features.distinct import first_of_runs
from features.layout import ItemColumn
from features.question import Feature, Floats, Question, value_share
from features.timeline import DAY

HOUR = 3_600 * 1_000_000  # microseconds
WEEKS = 4
"""Weeks whose days `item_weekday_share` looks at."""
SMOOTHING = 20
"""Events of the average item that are added to an item's own in a smoothed rate."""


def _recent_events(q: Question, days: int) -> Floats:
    inside_H = q.timestamps_H > (q.at_B - days * DAY)[q.owner_H]
    counts_B = np.bincount(q.owner_H[inside_H], minlength=len(q.at_B))
    dated_B = ~np.isnan(q.event_time(q.ends_B - 1)) | (q.lengths_B == 0)
    return np.where(dated_B, np.log1p(counts_B), np.nan)[:, None]


def _distinct_share(q: Question) -> Floats:
    keys_H = q.sorted_keys[0]
    owners = keys_H[first_of_runs(keys_H)] // q.key_width
    distinct_B = np.bincount(owners, minlength=len(q.at_B))
    return np.where(q.lengths_B > 0, distinct_B / np.maximum(q.lengths_B, 1), np.nan)[:, None]


def _session_events(q: Question) -> Floats:
    return (q.ends_B - q.session_starts_B)[:, None].astype(np.float64)


def _session_minutes(q: Question) -> Floats:
    length_B = q.at_B - q.event_time(q.session_starts_B)
    empty_B = q.session_starts_B == q.ends_B
    return np.where(empty_B, 0.0, np.maximum(length_B, 0) / (60 * 1_000_000))[:, None]


def _in_session(q: Question) -> Floats:
    width = int(max(q.items_H.max(initial=0), q.candidates_BC.max(initial=0))) + 1
    inside_H = q.in_session_H
    keys_H = np.sort(q.owner_H[inside_H] * width + q.items_H[inside_H])
    wanted_BC = q.candidates_BC + np.arange(len(q.at_B))[:, None] * width
    found_BC = np.searchsorted(keys_H, wanted_BC, "right") - np.searchsorted(keys_H, wanted_BC)
    return found_BC.astype(np.float64)


def _hour(q: Question) -> Floats:
    return (q.at_B // HOUR % 24)[:, None].astype(np.float64)


def _weekday(q: Question) -> Floats:
    return ((q.at_B // DAY + 3) % 7)[:, None].astype(np.float64)


def _weekday_share(q: Question) -> Floats:
    """Days are counted back from the last one that is known, so that none lies in the future."""
    weekday_B1 = (q.at_B // DAY)[:, None] % 7
    back_B1 = (q.day - 1 - weekday_B1) % 7 + 1  # to the newest known day of that weekday
    ends = np.stack([q.day - back_B1 + 1 - 7 * week for week in range(WEEKS)])
    rows = q.timeline.rows_before(q.candidates_BC, np.concatenate([ends, ends - 1]))
    totals = q.timeline.total[rows]
    same_BC = (totals[:WEEKS] - totals[WEEKS:]).sum(0)
    days = np.stack([q.day, q.day - 7 * WEEKS])
    until, before = q.timeline.total[q.timeline.rows_before(q.candidates_BC, days)]
    every_BC = until - before
    return np.where(every_BC > 0, same_BC / np.maximum(every_BC, 1), np.nan)


def _smoothed_rate(q: Question) -> Floats:
    """(n + s p) / (n_all + s): towards the rate p of the average known item."""
    every_B1 = q.all_items_30d
    own_BC = q.totals[0] - q.totals[2]
    average = 1.0 / max(int(q.timeline.key[-1] >> 32), 1)
    return (own_BC + SMOOTHING * average) / (every_B1 + SMOOTHING)


def _yesterday(q: Question) -> Floats:
    rows = q.timeline.rows_before(q.candidates_BC, np.stack([q.day, q.day - 1]))
    until, before = q.timeline.total[rows]
    return np.log1p(until - before)


MORE: tuple[Feature, ...] = (
    Feature(
        "user_events_7d", "ln(1 + the user's events in 7 days)", partial(_recent_events, days=7)
    ),
    Feature(
        "user_events_30d", "ln(1 + the user's events in 30 days)", partial(_recent_events, days=30)
    ),
    Feature("user_variety", "different items over events of the history", _distinct_share),
    Feature("session_events", "events of the visit so far", _session_events),
    Feature("session_minutes", "minutes since the visit began; 0 before it does", _session_minutes),
    Feature("session_times_seen", "events on the candidate in the visit", _in_session),
    Feature("at_hour", "hour of the day, UTC", _hour),
    Feature("at_weekday", "0 = Monday, UTC", _weekday),
    Feature("item_weekday_share", "share of 4 weeks' events on this weekday", _weekday_share),
    Feature("item_rate", "share of all events in 30 days, smoothed", _smoothed_rate, of_item=True),
    Feature("item_events_1d", "ln(1 + events on the last known day)", _yesterday, of_item=True),
)
"""Features of every data set."""


def _events_since_value(q: Question, column: ItemColumn) -> Floats:
    """Events after the last one with one of the candidate's values; nan where there is none."""
    table = q.item_table[column.name].reshape(-1, column.width)
    values_HW, values_BCW = table[q.items_H], table[q.candidates_BC]
    cells_HW = q.owner_H[:, None] * column.size + values_HW
    last = np.full(len(q.at_B) * column.size, -1, np.int64)
    rows_HW = np.broadcast_to(np.arange(len(q.owner_H))[:, None], cells_HW.shape)
    known_HW = values_HW > 1
    np.maximum.at(last, cells_HW[known_HW], rows_HW[known_HW])
    firsts_B11 = (np.arange(len(q.at_B)) * column.size)[:, None, None]
    newest_BC = np.where(values_BCW > 1, last[firsts_B11 + values_BCW], -1).max(2)
    return np.where(newest_BC >= 0, q.ends_B[:, None] - 1 - newest_BC, np.nan)


def _session_share(q: Question, column: ItemColumn) -> Floats:
    return value_share(q, column, "session")


def _text_share(q: Question, column: ItemColumn) -> Floats:
    return value_share(q, column, "alike")


def _distance(q: Question, column: ItemColumn) -> Floats:
    """|value - mean| over the standard deviation of the history's values, all in logarithms."""
    values_H = q.item_table[column.name][q.items_H].astype(np.float64)
    known_H = values_H > 0
    logs_H = np.log(values_H[known_H])
    owners_H, size = q.owner_H[known_H], len(q.at_B)
    counts_B = np.bincount(owners_H, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        means_B = np.bincount(owners_H, logs_H, size) / counts_B
        spread_B = np.bincount(owners_H, (logs_H - means_B[owners_H]) ** 2, size) / counts_B
        value_BC = q.item_table[column.name][q.candidates_BC].astype(np.float64)
        logs_BC = np.log(np.where(value_BC > 0, value_BC, np.nan))
        return np.abs(logs_BC - means_B[:, None]) / np.sqrt(spread_B + 0.01)[:, None]


def more_column_features(column: ItemColumn) -> tuple[Feature, ...]:
    """Further features of one encoded item column."""
    name = column.name
    made: dict[str, tuple[tuple[str, str, Callable[..., Floats]], ...]] = {
        "text": (
            (
                "overlap",
                "share of the history's events that hold each token, its mean",
                _text_share,
            ),
        ),
        "numeric": (("distance", "distance from the history's mean in spreads, of ln", _distance),),
        "timestamp": (),
        "sentence": (),
    }
    of_values = (
        ("since", "events since the candidate's value", _events_since_value),
        ("session_share", "share of the visit's events with its value", _session_share),
    )
    return tuple(
        Feature(f"{name}_{suffix}", meaning, partial(compute, column=column))
        for suffix, meaning, compute in made.get(column.kind, of_values)
    )
