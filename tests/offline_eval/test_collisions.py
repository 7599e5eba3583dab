"""Collisions by hand, and the bound against a simulation of the best possible lists."""

import numpy as np

from offline_eval.collisions import Collisions

TABLE = {
    "kind": np.array([0, 2, 2, 2, 3, 3, 4]),
    "tags": np.array([[0, 0], [5, 0], [5, 0], [5, 6], [5, 0], [5, 0], [7, 0]]),
    "price": np.array([np.nan, 1, 1, 1, np.nan, np.nan, 2], np.float32),
}


def test_groups_by_hand() -> None:
    found = Collisions.of(TABLE, ["kind", "tags", "price"])
    assert found.num_distinct == 4  # {1, 2}, {3}, {4, 5}, {6}
    assert found.num_sharing == 4
    assert found.groups[0] == found.groups[1] != found.groups[2]
    assert found.groups[3] == found.groups[4]
    assert Collisions.of(TABLE, ["kind"]).num_distinct == 3


def test_the_bound_is_what_the_best_lists_reach() -> None:
    found = Collisions.of(TABLE, ["kind"])  # groups of 3, 2 and 1
    targets = np.array([1, 2, 4, 6, 6])
    expected = (1 / 3 + 1 / 3 + 1 / 2 + 1 + 1) / 5
    assert found.recall_bound(targets, 1) == expected
    assert found.recall_bound(targets, 3) == 1
    draw = np.random.default_rng(0)
    hits = []
    for _ in range(4_000):  # the target's group first, in random order
        for target in targets:
            group = np.flatnonzero(found.groups == found.groups[target - 1]) + 1
            hits.append(target in draw.permutation(group)[:1])
    assert abs(np.mean(hits) - expected) < 0.02
