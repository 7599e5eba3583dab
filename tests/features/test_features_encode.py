"""Windows and encoded histories against a double loop."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.encode import Histories, encode_histories, window_rows

LISTS = st.lists(st.lists(st.integers(1, 9), max_size=7), max_size=6)


def padded(rows: list[list[int]], max_len: int) -> list[list[int]]:
    windows = [row[-max_len:] for row in rows]
    width = max([1, *map(len, windows)])
    return [row + [0] * (width - len(row)) for row in windows]


@given(LISTS, st.integers(1, 9))
def test_histories_equal_a_loop_over_lists(rows: list[list[int]], max_len: int) -> None:
    times = [[10 * item + place for place, item in enumerate(row)] for row in rows]
    events = [[item % 3 + 1 for item in row] for row in rows]
    histories = Histories.of(rows, times, events)
    found = encode_histories(histories, ("items", "timestamps", "events"), max_len)
    for name, lists in (("items", rows), ("timestamps", times), ("events", events)):
        assert found[name].dtype == np.int64
        assert found[name].tolist() == padded(lists, max_len)
    assert histories.lengths.tolist() == [len(row) for row in rows]


@given(LISTS, st.integers(1, 9))
def test_a_window_points_at_the_last_events_and_says_which_are_real(
    rows: list[list[int]], max_len: int
) -> None:
    histories = Histories.of(rows)
    found, real = window_rows(histories.starts, histories.ends, max_len)
    assert found.shape == real.shape
    for row, expected in enumerate(rows):
        assert histories.items[found[row][real[row]]].tolist() == expected[-max_len:]
        assert not found[row][~real[row]].any()


def test_attributes_are_gathered_for_each_position() -> None:
    table = {"colour": np.array([0, 5, 6]), "tags": np.array([[0, 0], [1, 2], [3, 0]])}
    histories = Histories.of([[2, 1], [1], []])
    found = encode_histories(histories, ("item.colour", "item.tags"), 5, table)
    assert found["item.colour"].tolist() == [[6, 5], [5, 0], [0, 0]]
    assert found["item.tags"].tolist() == [[[3, 0], [1, 2]], [[1, 2], [0, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("shortest", [0, 1, 3, np.array([2, 0, 0, 1])])
def test_prefixes_are_all_beginnings_and_copy_nothing(shortest: Any) -> None:
    rows = [[1, 2, 3, 4], [], [5], [6, 7]]
    histories = Histories.of(rows)
    before, after = histories.prefixes(shortest)
    least = np.broadcast_to(shortest, len(rows))
    expected = [
        (row[:end], row[end])
        for row, first in zip(rows, least, strict=True)
        for end in range(first, len(row))
    ]
    cut = zip(before.starts, before.ends, strict=True)
    found = [before.items[start:end].tolist() for start, end in cut]
    items = before.items[after].tolist()
    assert list(zip(found, items, strict=True)) == expected
    assert np.shares_memory(before.items, histories.items)
    assert np.shares_memory(before.timestamps, histories.timestamps)


def test_taking_rows_shares_the_values() -> None:
    histories = Histories.of([[1, 2], [3], [4, 5]])
    some = histories.take(np.array([2, 0]))
    assert some.items is histories.items
    assert encode_histories(some, ("items",), 5)["items"].tolist() == [[4, 5], [1, 2]]
    assert len(histories.take(slice(0, 2))) == 2


@pytest.mark.parametrize("name", ["titles", "item.colour"])
def test_a_name_that_is_no_input_raises(name: str) -> None:
    with pytest.raises(KeyError):
        encode_histories(Histories.of([[1]]), (name,), 3)
