"""Session-kNN against the definition in loops."""

import numpy as np
import pytest

from recsys.baselines import BASELINES
from recsys.baselines.interface import Interactions, history_matrix
from recsys.baselines.session_knn import SessionKNN

SESSIONS = [[1, 2, 3], [2, 3], [4, 5, 4], [1, 5], [6], [3, 1, 2, 6]]
NUM_ITEMS = 6


def interactions(sessions: list[list[int]]) -> Interactions:
    ends = np.cumsum([len(session) for session in sessions])
    items = np.concatenate([np.array(session) for session in sessions])
    starts = ends - [len(session) for session in sessions]
    return Interactions(items, np.arange(len(items)), starts, ends, NUM_ITEMS)


def by_definition(history: list[int], k: int) -> list[float]:
    def cosine(session: list[int]) -> float:
        a, b = set(history), set(session)
        return len(a & b) / (len(a) * len(b)) ** 0.5

    likest = sorted(range(len(SESSIONS)), key=lambda n: (-cosine(SESSIONS[n]), n))[:k]
    scores = [0.0] * (NUM_ITEMS + 1)
    for n in likest:
        for item in set(SESSIONS[n]):
            scores[item] += cosine(SESSIONS[n])
    return scores[1:]


@pytest.mark.parametrize("k", [1, 2, 4, 100])
def test_scores_are_those_of_the_definition(k: int) -> None:
    histories = [[2, 3], [5], [1, 1, 6], [4, 3]]
    knn = SessionKNN.fit(interactions(SESSIONS), num_neighbours=k)
    ends = np.cumsum([len(history) for history in histories])
    starts = ends - [len(history) for history in histories]
    asked = history_matrix(np.concatenate(histories), starts, ends, NUM_ITEMS)
    expected = [by_definition(history, k) for history in histories]
    found = knn.scores(asked)
    assert (found[:, 0] == -np.inf).all()
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-6)


def test_an_empty_history_has_no_neighbours() -> None:
    knn = BASELINES["session_knn"].fit(interactions(SESSIONS))
    nothing = history_matrix(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), 6)
    assert not knn.scores(nothing)[:, 1:].any()
