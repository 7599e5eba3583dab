"""Answers in the caller's terms: raw ids, titles, where each item came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from serving.catalogue import Catalogue, RawId
from serving.ranked import Ranked


class Recommendation(NamedTuple):
    """One item of an answer."""

    item_id: RawId
    score: float
    """Higher is better; compares only with scores of the same answer and source."""
    source: str
    """The first source that proposed it."""
    title: str | None
    columns: Mapping[str, Any]
    """What the catalogue declares of the item, read when somebody looks."""
    propensity: float = 1.0
    """Probability with which an exploring policy put it at its place, given those above it."""
    marginal: float | None = 1.0
    """The same before anything was drawn, which off-policy estimates divide by; None where it is
    not known."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """An answer, and how it came about."""

    items: tuple[Recommendation, ...]
    bundle_version: str
    degraded: tuple[str, ...] = ()
    """What is missing from a full answer; empty for one. Why it is not personal: `no_history`,
    `unknown_items` (none of them is known), or `no_candidates` (no source had an opinion). What
    the deadline cut short: `skipped:<source>`, `partly_ranked`, `not_ranked`."""
    unknown: int = 0
    """Events of the history whose item the bundle does not know."""


class AnswerWriter:
    """Makes answers from ranked dense ids."""

    def __init__(self, catalogue: Catalogue, source_names: Sequence[str], version: str) -> None:
        self._catalogue, self._names, self._version = catalogue, tuple(source_names), version

    def one(self, ranked: Ranked, degraded: tuple[str, ...], unknown: int) -> Recommendations:
        """The answer to one history."""
        return Recommendations(
            tuple(self.listed(ranked)), self._version, (*degraded, *ranked.degraded), unknown
        )

    def listed(self, ranked: Ranked) -> list[Recommendation]:
        """The items of the first row."""
        catalogue, names = self._catalogue, self._names
        items, scores, sources = ranked.items[0], ranked.scores[0], ranked.sources[0]
        answer = []
        for item, score, source in zip(
            items.tolist(), scores.tolist(), sources.tolist(), strict=True
        ):
            if item:
                raw, title = catalogue.raw_ids[item], catalogue.title(item)
                answer.append(Recommendation(raw, score, names[source], title, catalogue.row(item)))
        if ranked.propensities is not None and ranked.marginals is not None:
            real = items > 0
            chances = ranked.propensities[0][real].tolist()
            before = ranked.marginals[0][real].tolist()
            answer = [
                one._replace(propensity=chance, marginal=None if math.isnan(marginal) else marginal)
                for one, chance, marginal in zip(answer, chances, before, strict=True)
            ]
        return answer

    def frame(self, users: pl.Series, ranked: Ranked) -> pl.DataFrame:
        """Rows `user_id, rank, item_id, score, source`, and where it was explored `propensity` and
        `marginal`, nan where not known.
        """
        rows, columns = np.nonzero(ranked.items)
        raw_ids = self._catalogue.raw_series
        names = pl.Series(self._names, dtype=pl.String)
        frame = pl.DataFrame(
            {
                "user_id": users.gather(rows),
                "rank": pl.Series(columns + 1, dtype=pl.Int32),
                "item_id": raw_ids.gather(ranked.items[rows, columns]),
                "score": pl.Series(ranked.scores[rows, columns], dtype=pl.Float32),
                "source": names.gather(ranked.sources[rows, columns]),
            }
        )
        if ranked.propensities is None:
            return frame
        assert ranked.marginals is not None
        return frame.with_columns(
            propensity=pl.Series(ranked.propensities[rows, columns], dtype=pl.Float32),
            marginal=pl.Series(ranked.marginals[rows, columns], dtype=pl.Float32),
        )
