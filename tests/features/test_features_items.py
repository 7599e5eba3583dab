"""Item columns against a loop over rows; nothing is learned from cold items."""

from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.config import FeatureConfig
from features.errors import InputError
from features.items import encode_items, known_items, with_other_items
from features.layout import ItemColumn

WARM = 4
CATALOGUE = pl.DataFrame(
    {
        "item_id": [10, 11, 12, 13, 14, 15],
        "title": ["red shirt", "red shoe", None, "blue shoe", "velvet velvet", "red"],
        "colour": ["red", "red", None, "blue", "green", "red"],
        "year": [1999, 2001, 1999, None, 1950, 1999],
        "tags": [["a", "b"], ["b"], [], None, ["b", "c", "a"], ["a", None, "b"]],
        "price": [1.5, None, 3.0, 4.0, 5.0, 6.0],
        "since": pl.Series([7, None, 1, 2, 3, 4]).cast(pl.Datetime("us")),
    }
)
KINDS = {
    "title": "text",
    "colour": "category",
    "year": "category",
    "tags": "categories",
    "price": "numeric",
    "since": "timestamp",
}


def test_every_kind_of_column_against_a_loop() -> None:
    table = encode_items(CATALOGUE, WARM, KINDS, FeatureConfig(tokenizer_size=300))
    for name in ("colour", "year"):
        values = [None if v is None else str(v) for v in CATALOGUE[name]]
        counts = Counter(v for v in values[:WARM] if v is not None)
        known = sorted(counts, key=lambda v: (-counts[v], v))
        codes = [0 if v is None else known.index(v) + 2 if v in known else 1 for v in values]
        assert table.vocabularies[name].to_list() == known
        assert table.arrays[name].tolist() == [0, *codes]
    assert table.vocabularies["tags"].to_list() == ["b", "a"]  # "c" is on a cold item only
    # Two wide, as the longest list of a warm item: the third values of cold items are cut.
    expected = [[0, 0], [3, 2], [2, 0], [0, 0], [0, 0], [2, 1], [3, 0]]
    assert table.arrays["tags"].tolist() == expected
    np.testing.assert_array_equal(
        table.arrays["price"], np.array([np.nan, 1.5, np.nan, 3, 4, 5, 6], np.float32)
    )
    assert table.arrays["since"].tolist() == [0, 7, 0, 1, 2, 3, 4]
    assert table.arrays["title"].dtype == np.int32
    assert not table.arrays["title"][[0, 3]].any()
    assert "velvet" not in " ".join(table.tokenizers[0].get_vocab())


def test_the_columns_describe_the_arrays() -> None:
    table = encode_items(CATALOGUE, WARM, KINDS, FeatureConfig(tokenizer_size=300))
    columns = {column.name: column for column in table.columns}
    assert columns["colour"] == ItemColumn(name="colour", kind="category", size=4)
    assert columns["tags"] == ItemColumn(name="tags", kind="categories", size=4, width=2)
    assert columns["price"] == ItemColumn(name="price", kind="numeric")
    for name, column in columns.items():
        array = table.arrays[name]
        assert column.width == (array.shape[1] if array.ndim == 2 else 1)
        assert len(array) == len(CATALOGUE) + 1
        assert not column.size or array.max() < column.size


def test_limits_keep_the_most_frequent_values_and_the_first_of_a_list() -> None:
    config = FeatureConfig(max_values=1, max_categories=1, max_tokens=2, tokenizer_size=300)
    table = encode_items(CATALOGUE, len(CATALOGUE), KINDS, config)
    assert table.vocabularies["colour"].to_list() == ["red"]
    assert table.arrays["colour"].tolist() == [0, 2, 2, 0, 1, 1, 2]
    assert table.arrays["tags"].tolist() == [[0], [1], [2], [0], [0], [2], [1]]
    assert table.arrays["title"].shape == (7, 2)


def test_the_catalogue_follows_the_ids_and_may_take_the_other_items() -> None:
    ids = pa.array([13, 99, 10])
    rows = known_items(ids, CATALOGUE)
    assert rows["item_id"].to_list() == [13, 99, 10]
    assert rows["title"].to_list() == ["blue shoe", None, "red shirt"]
    assert with_other_items(ids, CATALOGUE).to_pylist() == [13, 99, 10, 11, 12, 14, 15]
    with pytest.raises(InputError, match="item_id is String in the events and Int64 in the items"):
        known_items(pa.array(["13"]), CATALOGUE)


def test_columns_without_any_value_are_encoded() -> None:
    empty = CATALOGUE.clear(3).with_columns(item_id=pl.Series([1, 2, 3]))
    table = encode_items(empty, 2, KINDS, FeatureConfig())
    for name in ("title", "colour", "year", "tags", "since"):
        assert not table.arrays[name].any()
        assert len(table.arrays[name]) == 4
    assert np.isnan(table.arrays["price"]).all()
