"""Rows that come later are encoded as the dataset encoded its own: against `encode_items`."""

import numpy as np
import polars as pl

from features.config import FeatureConfig
from features.items import ITEM, encode_items
from features.new_items import encode_rows
from features.schema import Items

CATALOGUE = pl.DataFrame(
    {
        "item_id": [10, 11, 12, 13, 14],
        "title": ["red shirt", "red shoe with laces", None, "blue shoe", "velvet"],
        "colour": ["red", "red", None, "blue", "green"],
        "tags": [["a", "b"], ["b"], [], None, ["b", "c", "a"]],
        "path": [["x", "y", "z"], ["x"], None, ["x", "w"], ["q", "w"]],
        "price": [1.5, None, 3.0, 4.0, 50.0],
        "since": pl.Series([7, None, 1, 2, 3]).cast(pl.Datetime("us")),
    }
)
KINDS = {
    "title": "text",
    "colour": "category",
    "tags": "categories",
    "path": "path",
    "price": "numeric",
    "since": "timestamp",
}


def test_the_datasets_own_rows_are_encoded_alike() -> None:
    table = encode_items(CATALOGUE, 4, KINDS, FeatureConfig(tokenizer_size=300, buckets=3))
    tokenizer = table.tokenizers[0]
    names = {column.name for column in table.columns}
    assert {"path.1", "path.3", "price.bucket"} <= names
    for rows in (CATALOGUE, CATALOGUE[:1], CATALOGUE[2:3], CATALOGUE[4:]):
        found = encode_rows(rows, table.columns, table.vocabularies, tokenizer)
        assert found.keys() == table.arrays.keys()
        places = [CATALOGUE["item_id"].to_list().index(raw) + 1 for raw in rows["item_id"]]
        for name, array in table.arrays.items():
            np.testing.assert_array_equal(found[name], array[places], err_msg=name)
            assert found[name].dtype == array.dtype


def test_what_training_did_not_know_is_unknown_and_not_an_error() -> None:
    table = encode_items(CATALOGUE, 4, KINDS, FeatureConfig(tokenizer_size=300, buckets=3))
    rows = pl.DataFrame(
        {
            "item_id": [99],
            "title": ["Zebra ünknown words in a very long title, cut on the right"],
            "colour": ["mauve"],
            "tags": [["b", "nobody knows", "a", "a"]],
            "path": [["x", "new", "z", "deeper than any"]],
            "price": [1e9],
            "since": pl.Series([5]).cast(pl.Datetime("us")),
        }
    )
    found = encode_rows(rows, table.columns, table.vocabularies, table.tokenizers[0])
    known = table.vocabularies["tags"].to_list()
    assert found["colour"].tolist() == [1]
    assert found["tags"].tolist() == [[2 + known.index("b"), 1]]  # as wide as those of training
    assert [found[f"path.{level}"].tolist()[0] > 1 for level in (1, 2, 3)] == [True, False, False]
    assert found["path.2"].tolist() == [1]
    assert found["price.bucket"].tolist() == [2 + len(table.vocabularies["price.bucket"]) - 1]
    assert found["title"].shape == (1, table.arrays["title"].shape[1])


def test_items_spells_the_id_column_as_the_contract_does() -> None:
    assert Items.item_id.name == ITEM
