"""Requests stored in a bundle with their answers, so that a server can test itself.

The histories are drawn at random: a bundle holds no user's real history.
"""

from typing import TYPE_CHECKING

import numpy as np

from features.encode import Histories
from serving.errors import BundleError
from serving.manifest import Golden

if TYPE_CHECKING:
    from serving.recommender import Recommender

DAY = 86_400 * 1_000_000  # microseconds
LENGTHS = (0, 1, 3, 20, 100)
"""Events of the histories, in turn."""
K = 10


def answer_golden(recommender: "Recommender", count: int) -> tuple[Golden, ...]:
    """`count` requests over items that training knew, one event a day until its end."""
    schema = recommender.schema
    results = []
    for number in range(count):
        rng = np.random.default_rng(number)
        length = LENGTHS[number % len(LENGTHS)]
        items = rng.integers(1, max(schema.num_warm_items, 1) + 1, length)
        timestamps = schema.cutoff - DAY * np.arange(length, 0, -1)
        codes = np.ones(length, np.int64)
        histories = Histories.of([items], [timestamps], [codes])
        found = recommender.rank(histories, k=K, at=np.array([schema.cutoff]))
        real = found.items[0] > 0
        results.append(
            Golden(
                items=tuple(items.tolist()),
                timestamps=tuple(timestamps.tolist()),
                events=tuple(codes.tolist()),
                at=schema.cutoff,
                expected=tuple(found.items[0][real].tolist()),
                scores=tuple(found.scores[0][real].tolist()),
            )
        )
    return tuple(results)


def refuse_other_answers(recommender: "Recommender") -> None:
    """Repeat the stored requests; raises BundleError for another answer. Items may swap places
    where their scores agree within 1e-3 of the greatest.
    """
    for number, golden in enumerate(recommender.manifest.golden):
        histories = Histories.of([golden.items], [golden.timestamps], [golden.events])
        found = recommender.rank(histories, k=len(golden.expected), at=np.array([golden.at]))
        expected = np.array(golden.scores, np.float32)
        tolerance = 1e-3 * max(float(np.abs(expected).max(initial=0)), 1.0)
        same = np.abs(found.scores[0] - expected) <= tolerance
        if not same.all() or not set(golden.expected[:1]) <= set(found.items[0].tolist()):
            raise BundleError(
                f"stored request {number} is answered {found.items[0, :5].tolist()}, "
                f"expected {list(golden.expected[:5])}: do not serve this bundle here"
            )
