"""Inputs of one behaviour alone, `items:2`, as models of several sequences read them."""

import numpy as np

from features.encode import Histories, encode_histories

HISTORIES = Histories.of(
    [[1, 2, 3, 4], [5], [], [6, 7]],
    [[10, 20, 30, 40], [50], [], [60, 70]],
    [[1, 2, 2, 1], [1], [], [2, 2]],
)


def test_a_marked_input_holds_the_events_of_that_behaviour() -> None:
    found = encode_histories(HISTORIES, ("items:2", "items", "timestamps:2", "items:1"), 10)
    assert list(found) == ["items:2", "items", "timestamps:2", "items:1"]
    assert found["items:2"].tolist() == [[2, 3], [0, 0], [0, 0], [6, 7]]
    assert found["timestamps:2"].tolist() == [[20, 30], [0, 0], [0, 0], [60, 70]]
    assert found["items:1"].tolist() == [[1, 4], [5, 0], [0, 0], [0, 0]]
    assert found["items"].tolist() == [[1, 2, 3, 4], [5, 0, 0, 0], [0] * 4, [6, 7, 0, 0]]


def test_rare_behaviours_are_not_crowded_out_by_frequent_ones() -> None:
    found = encode_histories(HISTORIES.take(slice(0, 1)), ("items:2", "items"), 1)
    assert found["items:2"].tolist() == [[3]]
    assert found["items"].tolist() == [[4]]


def test_attributes_and_any_order_of_rows() -> None:
    table = {"colour": np.arange(8) * 10}
    rows = HISTORIES.take(np.array([3, 0]))
    found = encode_histories(rows, ("item.colour:2",), 10, table)
    assert found["item.colour:2"].tolist() == [[60, 70], [20, 30]]


def test_a_behaviour_that_nobody_shows_is_padding() -> None:
    assert encode_histories(HISTORIES, ("items:9",), 5)["items:9"].tolist() == [[0]] * 4
