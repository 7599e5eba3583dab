import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.candidates import Candidates

seeds = st.integers(0, 2**32 - 1)


def some_candidates(rng: np.random.Generator, num_users: int, num_items: int) -> Candidates:
    users, items = rng.integers(0, num_users, 12), rng.integers(1, num_items + 1, 12)
    return Candidates.without(users, items, num_users=num_users, num_items=num_items)


@given(seeds)
def test_exclusions_equal_their_flags(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = some_candidates(rng, 4, 7)
    mask = candidates.mask()
    assert not mask[:, 0].any()
    np.testing.assert_array_equal(candidates.counts, mask.sum(axis=1))
    users, items = rng.integers(0, 4, 30), rng.integers(1, 8, 30)
    np.testing.assert_array_equal(candidates.hold(users, items), mask[users, items])
    assert Candidates.everything(4, 7).hold(users, items).all()
