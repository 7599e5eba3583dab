from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from features.layout import CUTS, DatasetSchema
from features.stage import StageManifest
from features.store import Dataset
from offline_eval.task import Task

VIEW, BUY = 1, 2


def a_dataset(**changes: object) -> Dataset:
    """Three users: u0 has 3 events and a window of 4, u1 a window without buys, u2 no history."""
    items = [1, 2, 1, 3, 4, 3, 2, 5, 5, 1, 6]
    events = [1, 1, 2, 1, 2, 2, 2, 1, 1, 2, 2]
    starts, cuts, ends = [0, 7, 9], [3, 8, 9], [7, 9, 11]
    schema = DatasetSchema(
        num_users=3,
        num_items=6,
        num_warm_items=5,
        num_events=11,
        event_types=("view", "buy"),
        target_events=("buy",),
        cold_targets="keep",
        item_columns=(),
        title_column="",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=0,
        split={"name": "global-time"},
    )
    columns = {str(name): np.array(starts) for name in CUTS}
    columns |= {"test_start": np.array(cuts), "test_end": np.array(ends)}
    return Dataset(
        path=Path("shop"),
        schema=replace(schema, **changes),
        manifest=StageManifest(kind="dataset", config={}, parent="", files={}, sha256=""),
        items=np.array(items, np.int32),
        timestamps=np.arange(11, dtype=np.int64) * 100,
        events=np.array(events, np.uint8),
        cuts=columns,
        item_table={},
    )


def test_targets_are_the_wanted_behaviours_and_at_is_the_first_of_them() -> None:
    task = Task.of(a_dataset(), "test", exclude_seen=True)
    assert task.truth.offsets.tolist() == [0, 3, 3, 5]
    assert task.truth.items.tolist() == [2, 3, 4, 1, 6]  # rows 4-6: 4, 3, 2; rows 9-10: 1, 6
    assert task.at.tolist() == [400, 800, 900]
    assert task.histories.lengths.tolist() == [3, 1, 0]


def test_counts() -> None:
    task = Task.of(a_dataset(), "test", exclude_seen=True)
    assert task.counts(num_warm_items=5) == {
        "cases": 3,
        "targets": 5,
        "cold targets (kept)": 1,
        "cold targets (dropped)": 0,
        "cases without a target": 1,
        "seen targets (unreachable)": 1,  # item 2 of u0
        "empty histories": 1,
    }
    free = Task.of(a_dataset(), "test", exclude_seen=False)
    assert free.counts(num_warm_items=5)["seen targets (unreachable)"] == 0


def test_cold_targets_are_dropped_and_counted_where_the_dataset_says_so() -> None:
    task = Task.of(a_dataset(cold_targets="drop"), "test", exclude_seen=True)
    assert task.truth.items.tolist() == [2, 3, 4, 1]
    counts = task.counts(num_warm_items=5)
    assert (counts["cold targets (dropped)"], counts["cold targets (kept)"]) == (1, 0)


def test_candidates_are_all_items_but_the_seen_ones() -> None:
    dataset = a_dataset()
    flags = Task.of(dataset, "test", exclude_seen=True).candidates().mask()
    assert [np.flatnonzero(~row).tolist() for row in flags] == [[0, 1, 2], [0, 5], [0]]
    everything = Task.of(dataset, "test", exclude_seen=False).candidates()
    assert everything.counts.tolist() == [6, 6, 6]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_blocks_hold_the_same_cases(size: int) -> None:
    task = Task.of(a_dataset(), "test", exclude_seen=True)
    blocks = list(task.blocks(size))
    assert [user for block in blocks for user in block.users] == task.users.tolist()
    assert [at for block in blocks for at in block.at] == task.at.tolist()
    assert [item for block in blocks for item in block.truth.items] == task.truth.items.tolist()
    flags = np.concatenate([block.candidates().mask() for block in blocks])
    np.testing.assert_array_equal(flags, task.candidates().mask())


def test_a_split_without_targets_is_refused() -> None:
    with pytest.raises(InputError, match="the validation split of shop has no targets"):
        Task.of(a_dataset(), "validation", exclude_seen=True)
