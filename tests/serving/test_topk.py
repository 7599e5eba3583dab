"""The top-k kernel against a full sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving.topk import NOTHING, compress, top_k

SCORES = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 30)),
    elements=st.sampled_from([-np.inf, -3.5, -1.0, -0.0, 0.0, 1e-30, 2.0, 2.5, 3e38])
    | st.floats(-100, 100, width=32),
)


def by_definition(scores: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    order = sorted(range(len(scores)), key=lambda column: (-scores[column], column))
    order = [column for column in order if scores[column] > -np.inf][:k]
    found = [float(scores[column]) for column in order]
    missing = k - len(order)
    return order + [0] * missing, found + [-np.inf] * missing


@settings(max_examples=300, deadline=None)
@given(SCORES, st.integers(1, 35))
def test_top_k_equals_a_full_sort(scores: np.ndarray, k: int) -> None:
    scores[:, 0] = NOTHING
    columns, found = top_k(scores, k)
    assert columns.shape == found.shape == (len(scores), k)
    for row in range(len(scores)):
        expected = by_definition(scores[row], k)
        assert (columns[row].tolist(), found[row].tolist()) == expected
        alone = top_k(scores[row : row + 1], k)
        assert (alone[0][0].tolist(), alone[1][0].tolist()) == expected


@pytest.mark.parametrize("seed", range(20))
def test_long_rows_equal_a_full_sort(seed: int) -> None:
    """Long enough for stretches; few distinct values, so that the cut falls among ties."""
    draw = np.random.default_rng(seed)
    width, k = int(draw.integers(100, 4_000)), int(draw.integers(1, 20))
    scores = draw.integers(-8, 8, (3, width)).astype(np.float32)
    scores[draw.random(scores.shape) < draw.choice([0.0, 0.5, 0.999])] = NOTHING
    scores[:, 0] = NOTHING
    columns, found = top_k(scores, k)
    for row in range(len(scores)):
        expected = by_definition(scores[row], k)
        assert (columns[row].tolist(), found[row].tolist()) == expected


@given(
    keep=npst.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(0, 12))),
    k=st.integers(1, 15),
)
def test_compress_keeps_the_order_of_what_is_kept(keep: np.ndarray, k: int) -> None:
    values = np.arange(1, keep.size + 1).reshape(keep.shape)
    (found,) = compress([values], [0], keep, k)
    for row in range(len(keep)):
        kept = values[row][keep[row]].tolist()[:k]
        assert found[row].tolist() == kept + [0] * (k - len(kept))
