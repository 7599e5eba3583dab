from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from features.store import Dataset
from recsys.training.batches import TrainingBatches, cut_windows, epoch_order, rows_between
from recsys.training.config import TrainConfig


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(2, 9), st.booleans())
def test_windows_cover_each_event_once_as_a_target(
    lengths: list[int], size: int, cover: bool
) -> None:
    ends = np.cumsum(lengths)
    starts = ends - lengths
    window_starts, window_ends = cut_windows(starts, ends, size, cover=cover)
    assert (window_ends - window_starts >= 2).all()
    assert (window_ends - window_starts <= size).all()
    targets = [
        row
        for first, last in zip(window_starts, window_ends, strict=True)
        for row in range(first + 1, last)
    ]
    expected = [
        row
        for first, last in zip(starts, ends, strict=True)
        for row in range(first + 1 if cover else max(first, last - size) + 1, last)
    ]
    assert sorted(targets) == expected


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_shows_each_window_once(num_windows: int, batch_size: int, epoch: int) -> None:
    lengths = np.random.default_rng(0).integers(2, 50, num_windows)
    order = epoch_order(lengths, batch_size, 3, epoch)
    assert sorted(np.concatenate(order)) == list(range(num_windows))
    assert len(order) == -(-num_windows // batch_size)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = np.arange(2, 102)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in epoch_order(lengths, 8, seed, epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_batches_hold_windows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 200, 2_000)
    padded = sum(lengths[rows].max() * len(rows) for rows in epoch_order(lengths, 32, 0, 0))
    shuffled = np.random.default_rng(1).permutation(lengths)
    naive = sum(chunk.max() * len(chunk) for chunk in np.array_split(shuffled, 63))
    assert padded < 1.08 * lengths.sum()
    assert naive > 1.8 * lengths.sum()


def test_a_batch_has_the_next_item_as_target(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [3, 1, 2]])  # the last two are held out
    batches = TrainingBatches.of(data, TrainConfig(), ("items", "item.colour"), 3)
    batch = batches.batch(np.array([0, 1]), 0)
    assert batch.targets is not None
    assert batch.items.tolist() == [[1, 2, 3], [7, 0, 0]]
    assert batch.targets.tolist() == [[2, 3, 4], [8, 0, 0]]
    assert batch.attributes["colour"].tolist() == [[1, 2, 3], [3, 0, 0]]
    assert batches.item_counts().tolist() == [1, 1, 1, 1, 0, 0, 1, 1, *[0] * 22]


def test_only_target_behaviours_are_learned_where_asked(
    make_dataset: Callable[..., Dataset],
) -> None:
    data = make_dataset([[1, 2, 3, 4, 5, 6, 7]], behaviours=2)  # behaviours 1 2 1 2 1, 2 1 held out
    batches = TrainingBatches.of(data, TrainConfig(targets="target_events"), ("items",), 10)
    batch = batches.batch(np.array([0]), 0)
    assert batch.targets is not None
    assert batch.items.tolist() == [[1, 2, 3, 4]]
    assert batch.targets.tolist() == [[0, 3, 0, 5]]


def test_a_horizon_draws_from_the_next_events(make_dataset: Callable[..., Dataset]) -> None:
    data = make_dataset([[1, 2, 3, 4, 5, 6, 7]])  # the last two are held out
    batches = TrainingBatches.of(data, TrainConfig(horizon=3), ("items",), 10)
    drawn = np.stack([batches.targets(batches.windows, 4, step)[0] for step in range(2_000)])
    expected = [{2, 3, 4}, {3, 4, 5}, {4, 5}, {5}]
    assert [set(column) for column in drawn.T] == expected
    np.testing.assert_allclose((drawn[:, 0] == 2).mean(), 1 / 3, atol=4 * 0.5 / 2_000**0.5)
    again = batches.targets(batches.windows, 4, 7)[0]
    assert again.tolist() == drawn[7].tolist()


def test_the_stream_from_a_later_step_is_the_rest_of_the_stream(ring: Dataset) -> None:
    batches = TrainingBatches.of(ring, TrainConfig(batch_size=7), ("items",), 5)
    whole = [batch.items.tolist() for batch in islice(batches.from_step(0), 20)]
    assert batches.steps_per_epoch == 6
    for step in (1, 6, 11):
        rest = [batch.items.tolist() for batch in islice(batches.from_step(step), 20 - step)]
        assert rest == whole[step:]


def test_ranks_share_an_epoch_without_overlap(ring: Dataset) -> None:
    shares = []
    for rank in range(3):
        batches = TrainingBatches.of(ring, TrainConfig(batch_size=4), ("items",), 5, (rank, 3))
        order = epoch_order(batches.windows.lengths, 12, 0, 0)
        assert len(order) == batches.steps_per_epoch
        shares.append([batches.share(rows) for rows in order])
    windows = np.concatenate([np.concatenate(rows) for rows in shares])
    assert sorted(windows) == list(range(40))
    assert all(len(rows) for share in shares for rows in share)


def test_a_global_batch_smaller_than_the_world_still_feeds_every_rank(ring: Dataset) -> None:
    batches = TrainingBatches.of(ring, TrainConfig(), ("items",), 5, (2, 3))
    assert batches.share(np.array([5])).tolist() == [5]


def test_rows_between_by_hand() -> None:
    owner, rows = rows_between(np.array([3, 7, 9]), np.array([5, 7, 12]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert rows.tolist() == [3, 4, 9, 10, 11]


def test_nothing_to_learn_is_said(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(InputError, match="no training history of two events or more"):
        TrainingBatches.of(make_dataset([[1, 2, 3]]), TrainConfig(), ("items",), 5)
