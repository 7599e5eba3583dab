"""Ranks of candidates within a source: one question alone as among others."""

import numpy as np
import pytest

from features.asof_sources import source_features
from features.encode import Histories
from features.question import Question
from features.timeline import ItemTimeline

NAN = float("nan")
LISTS = (
    [3.0, 2.0, 2.0, 1.0],
    [3.0, NAN, NAN, NAN],
    [NAN, 3.0, NAN, NAN],
    [NAN, 3.0, 2.0, 1.0],
    [3.0, NAN, 2.0, 1.0],
    [1.0, 3.0, 2.0, NAN],
    [NAN, NAN, NAN, NAN],
)


def ranks(scores_BC: np.ndarray) -> np.ndarray:
    """Of the only source, (B, C)."""
    size = len(scores_BC)
    none = np.zeros(0, np.int64)
    timeline = ItemTimeline(none, none, none.astype(np.int32), none)
    empty = Histories.of([[] for _ in range(size)])
    question = Question(
        empty, np.zeros(size), np.ones(scores_BC.shape), {"model": scores_BC}, timeline, {}
    )
    return source_features("model")[2].compute(question)


@pytest.mark.parametrize("scores", LISTS)
def test_ranks_follow_the_scores(scores: list[float]) -> None:
    asked = np.array([scores, LISTS[0]], np.float32)
    known = [score for score in scores if score == score]  # noqa: PLR0124 - not nan
    expected = [
        NAN
        if np.isnan(score)
        else 1.0 + sum(k > score for k in known) + scores[:place].count(score)
        for place, score in enumerate(scores)
    ]
    np.testing.assert_array_equal(ranks(asked)[0], expected)
    np.testing.assert_array_equal(ranks(asked[:1])[0], expected)
