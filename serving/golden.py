"""Requests stored in a bundle with their answers, so that a server can test itself.

The histories are drawn at random: a bundle holds no user's real history.
"""

import numpy as np

from features.encode import Histories
from serving.manifest import Golden
from serving.recommender import Recommender

DAY = 86_400 * 1_000_000  # microseconds
LENGTHS = (0, 1, 3, 20, 100)
"""Events of the histories, in turn."""
K = 10


def answer_golden(recommender: Recommender, count: int) -> tuple[Golden, ...]:
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
