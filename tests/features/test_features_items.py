"""Item columns against a loop over rows; nothing is learned from cold items."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

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


def test_a_path_becomes_a_column_a_level_whose_values_know_their_parents() -> None:
    paths = pl.DataFrame(
        {
            "item_id": [1, 2, 3, 4, 5],
            "where": [["home", "chair"], ["office", "chair"], ["home"], None, ["home", "x", "y"]],
        }
    )
    table = encode_items(paths, 4, {"where": "path"}, FeatureConfig())
    assert [(c.name, c.kind, c.source) for c in table.columns] == [
        ("where.1", "category", "where"),
        ("where.2", "category", "where"),
    ]  # the third level is on a cold item only
    assert table.vocabularies["where.1"].to_list() == ["home", "office"]
    assert table.vocabularies["where.2"].to_list() == ["home > chair", "office > chair"]
    assert table.arrays["where.1"].tolist() == [0, 2, 3, 2, 0, 2]
    assert table.arrays["where.2"].tolist() == [0, 2, 3, 0, 0, 1]
    cut = encode_items(paths, 4, {"where": "path"}, FeatureConfig(max_levels=1))
    assert [column.name for column in cut.columns] == ["where.1"]


def test_buckets_are_quantiles_of_the_training_items_only() -> None:
    numbers = [*range(1, 9), None, 1_000_000]
    prices = pl.DataFrame({"item_id": range(10), "price": pl.Series(numbers, dtype=pl.Float64)})
    table = encode_items(prices, 9, {"price": "numeric"}, FeatureConfig(buckets=4))
    price, column = table.columns
    assert (price.name, price.kind) == ("price", "numeric")
    assert (column.name, column.kind, column.source) == ("price.bucket", "category", "price")
    expected = [sorted(range(1, 9))[math.ceil(share * 7)] for share in (0.25, 0.5, 0.75)]
    assert column.edges == tuple(expected)  # 3, 5, 7
    codes = [2 + sum(edge <= number for edge in expected) for number in range(1, 9)]
    assert table.arrays["price.bucket"].tolist() == [0, *codes, 0, 5]
    assert column.size == 6
    assert table.vocabularies["price.bucket"][0] == "below 3"


def test_buckets_of_one_number_or_of_none_are_one_bucket() -> None:
    for numbers in ([7.0, 7.0], [None, None]):
        prices = pl.DataFrame({"item_id": [1, 2], "price": pl.Series(numbers, dtype=pl.Float64)})
        table = encode_items(prices, 2, {"price": "numeric"}, FeatureConfig(buckets=9))
        assert table.columns[1].edges == ()
        assert table.arrays["price.bucket"].tolist() == [0, *[2 if n else 0 for n in numbers]]


def test_a_pretrained_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "red": 4, "shirt": 5}
    pretrained = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    pretrained.pre_tokenizer = Whitespace()
    pretrained.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    pretrained.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    pretrained.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    pretrained.save(str(path))
    config = FeatureConfig(tokenizer=str(path))
    table = encode_items(CATALOGUE, WARM, {"title": "text"}, config)
    assert table.tokenizer_origin == "pretrained"
    assert table.columns[0].size == 6
    assert table.arrays["title"].tolist()[:4] == [[0, 0], [4, 5], [4, 3], [0, 0]]
    words = {
        "red": 0,
        "shirt": 1,
        "[UNK]": 2,
    }  # here id 0 is a word, and must not look like padding
    Tokenizer(WordLevel(words, unk_token="[UNK]")).save(str(path))
    table = encode_items(CATALOGUE, WARM, {"title": "text"}, config)
    assert (table.columns[0].offset, table.columns[0].size) == (1, 4)
    assert table.arrays["title"][6].tolist() == [1]
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        encode_items(CATALOGUE, WARM, {"title": "text"}, config)
