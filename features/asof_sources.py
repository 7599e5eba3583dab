"""Ranking features of what the candidate sources say: score, margin and rank of each."""

from functools import partial

import numpy as np

from features.question import Feature, Floats, Question


def _margin(q: Question, source: str) -> Floats:
    scores = q.source_scores[source]
    return scores - np.fmax.reduce(scores, axis=1, keepdims=True)


def _rank(q: Question, source: str) -> Floats:
    scores = q.source_scores[source]
    if len(scores) == 1:  # the same, quicker
        return _ranks_of(scores[0])[None]
    order = np.argsort(-scores, axis=1, kind="stable")  # nan last; equal scores: column order
    ranks = np.empty(scores.shape)
    ranks[np.arange(len(order))[:, None], order] = np.arange(1.0, scores.shape[1] + 1)
    return np.where(np.isnan(scores), np.nan, ranks)


def _ranks_of(scores_C: Floats) -> Floats:
    ranks_C = np.full(len(scores_C), np.nan)
    known = np.flatnonzero(~np.isnan(scores_C))
    proposed = scores_C.take(known)
    if not (proposed[1:] <= proposed[:-1]).all():  # seldom: a source proposes the best first
        known = known.take((-proposed).argsort(kind="stable"))
    ranks_C[known] = np.arange(1.0, len(known) + 1)
    return ranks_C


def source_features(source: str) -> tuple[Feature, ...]:
    """The features of one candidate source; nan where it did not propose the candidate."""
    return (
        Feature(f"{source}_score", "its score", lambda q: q.source_scores[source]),
        Feature(f"{source}_margin", "its score less its best", partial(_margin, source=source)),
        Feature(f"{source}_rank", "1 = its best candidate", partial(_rank, source=source)),
    )
