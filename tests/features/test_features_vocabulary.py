"""Numbers by first appearance, training first; attribute values by frequency."""

from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.vocabulary import encode_values, fit_values, number_by_appearance, number_items


@pytest.mark.parametrize("seed", range(3))
def test_items_of_training_come_first_each_part_by_first_appearance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = [f"i{n}" for n in rng.integers(0, 50, 120)]
    training = rng.random(120) < 0.5
    order = [r for r, t in zip(raw, training, strict=True) if t]
    order += [r for r, t in zip(raw, training, strict=True) if not t]
    expected = list(dict.fromkeys(order))

    dense, ids, num_warm = number_items(pa.array(raw), training)

    assert ids.to_pylist() == expected
    assert num_warm == len({r for r, t in zip(raw, training, strict=True) if t}) < len(expected)
    assert [expected[d - 1] for d in dense] == raw


def test_the_order_of_ids_does_not_depend_on_held_out_events() -> None:
    raw = ["c", "a", "b", "a", "c", "z"]
    training = np.array([False, True, True, True, True, False])
    _, ids, num_warm = number_items(pa.array(raw), training)
    _, others, _ = number_items(pa.array(["z", *raw[1:5], "b"]), training)
    assert ids.to_pylist()[:num_warm] == others.to_pylist()[:num_warm] == ["a", "b", "c"]


def test_integers_and_strings_are_numbered_alike() -> None:
    numbers = [7, 3, 7, 9]
    for ids in (pa.array(numbers), pa.array([str(n) for n in numbers]), pa.array([], pa.int64())):
        codes, distinct = number_by_appearance(ids)
        assert codes.tolist() == [0, 1, 0, 2][: len(ids)]
        assert [distinct[c] for c in codes] == list(ids)


def test_values_are_ranked_by_frequency_then_name_and_cut() -> None:
    values = pl.Series(["b", "a", "c", "b", "a", None, "d", "d", "d"])
    known = fit_values(values, 3)
    counts = Counter(v for v in values if v is not None)
    assert known.to_list() == sorted(counts, key=lambda v: (-counts[v], v))[:3] == ["d", "a", "b"]


def test_missing_is_0_unknown_is_1_and_known_start_at_2() -> None:
    known = pl.Series(["d", "a"])
    codes = encode_values(pl.Series(["a", None, "new", "d"]), known)
    assert codes.tolist() == [3, 0, 1, 2]
    assert codes.dtype == np.int32
    nothing_known = encode_values(pl.Series(["a", None]), pl.Series([], dtype=pl.String))
    assert nothing_known.tolist() == [1, 0]
