"""Raw ids and attribute values to dense numbers.

Ids: 0 is padding, 1..N real. Attribute values: 0 missing or padding, 1 unknown, 2.. known.
"""

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

FIRST_VALUE = 2
"""Code of the first known attribute value."""


def number_by_appearance(raw_ids: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Code of each element, counted from 0 by first appearance, and the distinct raw ids.

    >>> codes, ids = number_by_appearance(pa.array(["b", "a", "b"]))
    >>> codes.tolist(), ids.to_pylist()
    ([0, 1, 0], ['b', 'a'])
    """
    encoded = raw_ids.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def number_items(
    raw_items: pa.Array, is_training: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], pa.Array, int]:
    """Dense item id (from 1) of each event, the raw ids in that order, and how many are warm.

    Items of training events come first, by first appearance among them; then those that occur
    only later. So ids 1..warm are what a model can know, and no order betrays a held-out event.
    """
    training, later = np.flatnonzero(is_training), np.flatnonzero(~is_training)
    order = np.concatenate([training, later])
    in_order = raw_items if not len(later) else raw_items.take(pa.array(order))
    codes, ids = number_by_appearance(in_order)
    dense = np.empty(len(order), np.int32)
    dense[order] = codes + 1
    return dense, ids, int(dense[training].max(initial=0))


def fit_values(values: pl.Series, limit: int) -> pl.Series:
    """The known values of an attribute: the `limit` most frequent, ties by value. No nulls."""
    counts = values.drop_nulls().alias("value").value_counts(name="n")
    ranked = counts.sort("n", "value", descending=[True, False])
    return ranked["value"].head(limit)


def encode_values(values: pl.Series, known: pl.Series) -> NDArray[np.int32]:
    """Codes of attribute values: 0 for null, 1 for a value not in `known`, else 2 + its place."""
    codes = pl.int_range(FIRST_VALUE, FIRST_VALUE + len(known), dtype=pl.Int32, eager=True)
    encoded = (
        values.replace_strict(known, codes, default=1, return_dtype=pl.Int32)
        if len(known)
        else pl.repeat(1, len(values), dtype=pl.Int32, eager=True)
    )
    return np.where(values.is_null().to_numpy(), 0, encoded.to_numpy()).astype(np.int32)
