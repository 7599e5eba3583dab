from collections.abc import Callable

import numpy as np
import pytest

from features.store import Dataset
from recsys.training.config import RankingConfig
from recsys.training.moments import (
    Chosen,
    Moments,
    NegativeSampler,
    first_of_the_same_time,
    training_moments,
)

HISTORIES = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 8, 10, 11], [12, 13, 14]]
"""The last two events of each are validation and test."""


@pytest.fixture
def data(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(HISTORIES)


def as_rows(moments: Moments, data: Dataset) -> list[tuple[int, list[int], int]]:
    return [
        (int(u), data.items[s:c].tolist(), int(data.items[r]))
        for u, s, c, r in zip(
            moments.users, moments.starts, moments.cuts, moments.rows, strict=True
        )
    ]


def test_a_moment_is_a_training_event_and_what_came_before_it(data: Dataset) -> None:
    found = as_rows(training_moments(data, RankingConfig(min_history=2)), data)
    assert found == [
        (0, [1, 2], 3),
        (0, [1, 2, 3], 4),
        (0, [1, 2, 3, 4], 5),
        (1, [8, 9], 8),
    ]


def test_strides_count_back_from_the_newest(data: Dataset) -> None:
    config = RankingConfig(stride=2, targets_per_user=2)
    found = [(u, item) for u, _, item in as_rows(training_moments(data, config), data)]
    assert found == [(0, 3), (0, 5), (1, 8)]  # 9 of user 1 has a history of one, and odd place


def test_only_target_behaviours_are_moments(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset(HISTORIES, behaviours=2)  # every second event of the log
    found = training_moments(data, RankingConfig())
    assert set(data.events[found.rows].tolist()) == {1}
    assert {2, 4}.isdisjoint(set(data.items[found.rows].tolist()))


def test_simultaneous_events_can_be_hidden() -> None:
    times, starts = np.array([1, 1, 2, 2, 2, 2, 3]), np.array([0, 4])
    assert first_of_the_same_time(times, starts).tolist() == [0, 0, 2, 2, 4, 4, 6]


def test_chosen_knows_the_last_time(data: Dataset) -> None:
    chosen = Chosen(data, data.cuts["train_end"])
    users, items = np.array([1, 1, 0, 0, 1]), np.array([8, 8, 6, 1, 1])
    rows = np.array([7, 10, 0, 0, 0])
    # user 1 chooses 8 in rows 7 and 9; 6 is user 0's validation event; 1 is not user 1's
    assert chosen.since(users, items, rows).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("reject", ["future", "ever"])
def test_negatives_are_never_of_the_users_future(data: Dataset, reject: str) -> None:
    config = RankingConfig(negatives=200, reject=reject)  # pyright: ignore[reportArgumentType]
    moments = training_moments(data, config)
    sampler = NegativeSampler(data, config, Chosen(data, data.cuts["train_end"]))
    items = sampler.draw(moments, np.random.default_rng(0))
    for r in range(len(moments)):
        later = data.items[moments.cuts[r] : data.cuts["train_end"][moments.users[r]]]
        earlier = data.items[moments.starts[r] : moments.cuts[r]]
        assert not np.isin(items[r], later).any()
        only_before = set(earlier.tolist()) - set(later.tolist())
        assert np.isin(items[r], earlier).any() == (reject == "future" and bool(only_before))
        trained = {1, 2, 3, 4, 5, 8, 9, 12}
        assert set(items[r].tolist()) <= trained | {0}  # only what training knows


def test_negatives_follow_popularity(data: Dataset) -> None:
    config = RankingConfig(negatives=20_000)
    moments = training_moments(data, config).take(np.array([0]))  # user 0: rejects 2, 3, 4, 5
    sampler = NegativeSampler(data, config, Chosen(data, data.cuts["train_end"]))
    counts = np.bincount(sampler.draw(moments, np.random.default_rng(0))[0], minlength=31)
    assert counts[8] == pytest.approx(2 * counts[9], rel=0.1)  # twice in the log
    assert counts[12] == pytest.approx(counts[9], rel=0.1)


def test_what_cannot_be_replaced_is_left_out(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2, 1, 2, 3, 3]])
    config = RankingConfig(negatives=4, reject="ever")
    moments = training_moments(data, config)
    sampler = NegativeSampler(data, config, Chosen(data, data.cuts["train_end"]))
    assert (sampler.draw(moments, np.random.default_rng(0)) == 0).all()
