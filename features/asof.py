"""Ranking features as of a moment: the same numbers in training and in serving. numpy only.

A question is a user's history, a moment `at` and candidate items. Each feature is one small
specification: a name, what it says, and a function of the question. All are computed from the
history as given (the one the retriever sees), from the item timeline strictly before the day of
`at` (`features.timeline` says why), and from the item table. nan means undefined.

This file has the basic features, which a ranker gets unless its config names others. Those of
`features.asof_more`, `features.asof_behaviours` and `features.asof_covisits` must be named.

Shapes: B questions, C candidates each, H events of all B histories together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from features.asof_behaviours import behaviour_features
from features.asof_columns import column_features
from features.asof_covisits import COVISIT_FEATURES
from features.asof_more import MORE, more_column_features
from features.asof_sources import source_features
from features.encode import Histories
from features.errors import InputError
from features.layout import DatasetSchema, ItemColumn
from features.question import Feature, Floats, Ints, Question
from features.timeline import DAY, ItemTimeline, write_timelines

if TYPE_CHECKING:
    from features.prepared import PreparedDay

__all__ = [
    "FEATURES",
    "NO_FACTS",
    "Facts",
    "Feature",
    "ItemTimeline",
    "feature_names",
    "ranking_features",
    "write_timelines",
]

Wanted = Literal["basic", "all"] | tuple[str, ...]
"""Features by name, or `basic`: those of this file, for every column and source; or `all`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a dataset knows beside its item columns that features can be made of."""

    event_types: tuple[str, ...] = ()
    """Behaviours in the order of their codes."""
    covisits: bool = False
    """Whether co-visits are counted."""

    @classmethod
    def of(cls, schema: DatasetSchema) -> "Facts":
        """Those of a dataset."""
        return cls(schema.event_types, schema.covisit_reach > 0)


NO_FACTS = Facts()
MAX_CELLS = 1 << 18
"""Questions x values of a column counted at once: bounds the memory of wide vocabularies."""


def _days_since(question: Question, times: Floats) -> Floats:
    """Days from `times` to `at`; 0 when the clock says later."""
    at = question.at_B.reshape(-1, *[1] * (times.ndim - 1))
    return np.maximum(at - times, 0) / DAY


def _since_last_event(q: Question) -> Floats:
    return _days_since(q, q.last_time_B)[:, None]


def _mean_gap(q: Question) -> Floats:
    span = q.last_time_B - q.event_time(q.starts_B)
    return np.where(q.lengths_B > 1, span / np.maximum(q.lengths_B - 1, 1) / DAY, np.nan)[:, None]


def _window(q: Question, window: int) -> NDArray[np.int64]:
    return q.totals[0] - q.totals[window]


def _share_30d(q: Question) -> Floats:
    every = q.all_items_30d
    return np.where(every > 0, _window(q, 2) / np.maximum(every, 1), np.nan)


def _since_first_day(q: Question) -> Floats:
    first = q.timeline.first_day[q.rows[0]]
    return np.where(q.totals[0] > 0, q.day - first, np.nan)


def _since_last_day(q: Question) -> Floats:
    last = q.timeline.day_at(q.rows[0])
    return np.where(q.totals[0] > 0, q.day - last, np.nan)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "user_events", "ln(1 + events in the history)", lambda q: np.log1p(q.lengths_B)[:, None]
    ),
    Feature("user_days_since_event", "days since the last event", _since_last_event),
    Feature("user_mean_gap", "mean days between events; nan below two", _mean_gap),
    Feature(
        "item_events",
        "ln(1 + events before the day)",
        lambda q: np.log1p(q.totals[0]),
        of_item=True,
    ),
    Feature(
        "item_events_7d",
        "ln(1 + events in 7 days)",
        lambda q: np.log1p(_window(q, 1)),
        of_item=True,
    ),
    Feature(
        "item_events_30d",
        "ln(1 + events in 30 days)",
        lambda q: np.log1p(_window(q, 2)),
        of_item=True,
    ),
    Feature("item_share_30d", "share of all events in 30 days", _share_30d, of_item=True),
    Feature(
        "item_trend",
        "ln of the 7-day rate over the 30-day rate, one event added to each week",
        lambda q: np.log((_window(q, 1) + 1) / (_window(q, 2) * (7 / 30) + 1)),
        of_item=True,
    ),
    Feature(
        "item_age", "days since the item's first day with events", _since_first_day, of_item=True
    ),
    Feature(
        "item_days_since_event",
        "days since its last day with events",
        _since_last_day,
        of_item=True,
    ),
    Feature("times_seen", "events on the candidate in the history", lambda q: q.seen[0]),
    Feature("days_since_seen", "days since the last of them", lambda q: _days_since(q, q.seen[1])),
    Feature(
        "num_sources",
        "sources that proposed the candidate",
        lambda q: sum((~np.isnan(s) for s in q.source_scores.values()), np.zeros((1, 1), int)),
    ),
)
"""Features that every data set has."""


@lru_cache(maxsize=64)
def specifications(
    columns: tuple[ItemColumn, ...],
    sources: tuple[str, ...],
    wanted: Wanted = "basic",
    facts: Facts = NO_FACTS,
) -> tuple[Feature, ...]:
    """The wanted features in the order of the ranker's input; InputError for an unknown name."""
    basic = (
        *FEATURES,
        *(feature for column in columns for feature in column_features(column)),
        *(feature for source in sources for feature in source_features(source)),
    )
    if wanted == "basic":
        return basic
    more = [feature for column in columns for feature in more_column_features(column)]
    if len(facts.event_types) > 1:
        for code, name in enumerate(facts.event_types, 1):
            more += behaviour_features(name, code)
    more += COVISIT_FEATURES if facts.covisits else ()
    every = {feature.name: feature for feature in (*basic, *MORE, *more)}
    if wanted == "all":
        return tuple(every.values())
    if unknown := [name for name in wanted if name not in every]:
        raise InputError(
            f"there are no ranking features {unknown[:5]} ({len(unknown)} such names): choose "
            f"among {', '.join(every)}"
        )
    return tuple(every[name] for name in wanted)


def feature_names(
    columns: Sequence[ItemColumn],
    sources: Sequence[str],
    wanted: Wanted = "basic",
    facts: Facts = NO_FACTS,
) -> tuple[str, ...]:
    """Names of the last axis of `ranking_features`."""
    chosen = specifications(tuple(columns), tuple(sources), wanted, facts)
    return tuple(feature.name for feature in chosen)


def ranking_features(  # noqa: PLR0913 - a question has seven parts
    histories: Histories,
    at: Ints,
    candidates: Ints,
    source_scores: Mapping[str, Floats],
    timeline: ItemTimeline,
    item_table: Mapping[str, NDArray],
    columns: Sequence[ItemColumn],
    *,
    wanted: Wanted = "basic",
    facts: Facts = NO_FACTS,
) -> NDArray[np.float32]:
    """(B, C, F) float32 in the order of `feature_names` of the same columns, sources and facts.

    at: (B,) int64 microseconds. candidates: (B, C) dense ids; those of 0 (padding) get nan only.
    source_scores: (B, C) each, nan where the source did not propose the candidate.
    timeline: what is known of items; `timeline.delayed` knows of it later.
    item_table: as `Dataset.item_table`. Only the wanted features are computed.
    """
    features = specifications(tuple(columns), tuple(source_scores), wanted, facts)
    bound = BoundFeatures(features, tuple(columns), timeline, item_table)
    return bound.rows(histories, at, candidates, source_scores)


@dataclass(frozen=True, slots=True)
class BoundFeatures:
    """Features and what they are computed from, to be asked again and again."""

    features: tuple[Feature, ...]
    columns: tuple[ItemColumn, ...]
    timeline: ItemTimeline
    item_table: Mapping[str, NDArray]
    prepared: "PreparedDay | None" = None
    """Made for the same features; looked up instead of computed, where all questions are of its
    day."""

    def rows(
        self,
        histories: Histories,
        at: Ints,
        candidates: Ints,
        source_scores: Mapping[str, Floats],
    ) -> NDArray[np.float32]:
        """As `ranking_features`, whose order of sources `features` follow."""
        rows_BCF = np.empty((*candidates.shape, len(self.features)), np.float32)
        size = len(candidates)
        step = 1 if size == 1 else _questions_at_once(self.features, self.columns, candidates)
        for start in range(0, size, step):
            block = slice(start, start + step)
            scores, cut = source_scores, histories
            if size > step:
                scores = {name: values[block] for name, values in source_scores.items()}
                cut = histories.take(block)
            self._fill(
                rows_BCF[block],
                Question(cut, at[block], candidates[block], scores, self.timeline, self.item_table),
            )
        if not candidates.all():
            rows_BCF[candidates == 0] = np.nan
        return rows_BCF

    def _fill(self, rows_BCF: NDArray[np.float32], question: Question) -> None:
        """Compute the rows of some questions, or look them up."""
        prepared = self.prepared
        ready = prepared is not None and question.at_B.min() >= prepared.begin
        if prepared is not None and ready:
            prepared.copy_to(rows_BCF, question.candidates_BC)
        with np.errstate(invalid="ignore", divide="ignore"):  # undefined is nan, and meant
            for f, feature in enumerate(self.features):
                if not (ready and feature.of_item):
                    rows_BCF[:, :, f] = feature.compute(question)


def _questions_at_once(
    features: Sequence[Feature], columns: Sequence[ItemColumn], candidates: Ints
) -> int:
    names = {feature.name for feature in features}
    counted = (
        c for c in columns if c.kind not in ("text", "sentence") or f"{c.name}_overlap" in names
    )
    widest = max((column.size for column in counted), default=0)
    return max(MAX_CELLS // max(widest, *candidates.shape[1:], 1), 1)
