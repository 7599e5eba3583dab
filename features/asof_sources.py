"""Ranking features of what the candidate sources say: score, margin and rank of each."""

from functools import partial

import numpy as np

from features.question import Feature, Floats, Question


def _margin(q: Question, source: str) -> Floats:
    scores = q.source_scores[source]
    return scores - np.fmax.reduce(scores, axis=1, keepdims=True)


def _rank(q: Question, source: str) -> Floats:
    scores = q.source_scores[source]
    if len(scores) == 1 and _descends(scores[0]):
        ranks_C = np.arange(1.0, scores.shape[1] + 1)
        ranks_C[np.isnan(scores[0])] = np.nan
        return ranks_C[None]
    order = np.argsort(-scores, axis=1, kind="stable")  # nan last; equal scores: column order
    ranks = np.empty(scores.shape)
    ranks[np.arange(len(order))[:, None], order] = np.arange(1.0, scores.shape[1] + 1)
    return np.where(np.isnan(scores), np.nan, ranks)


def _descends(scores_C: Floats) -> bool:
    """Whether a source's candidates stand in its own order, as its proposals do, nan behind."""
    known = len(scores_C) - np.count_nonzero(np.isnan(scores_C))
    head_C = scores_C[:known]
    in_order = (head_C[1:] <= head_C[:-1]).all()  # false where one is nan
    return bool(in_order and not np.isnan(head_C[:1]).any())


def source_features(source: str) -> tuple[Feature, ...]:
    """The features of one candidate source; nan where it did not propose the candidate."""
    return (
        Feature(f"{source}_score", "its score", lambda q: q.source_scores[source]),
        Feature(f"{source}_margin", "its score less its best", partial(_margin, source=source)),
        Feature(f"{source}_rank", "1 = its best candidate", partial(_rank, source=source)),
    )
