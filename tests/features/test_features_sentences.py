"""Item sentences by hand, and the histories made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from features.encode import Histories, encode_histories
from features.errors import InputError
from features.layout import TOKENIZER, ItemColumn
from features.sentences import as_texts, encode_sentences, pad_sentences
from features.store import Dataset

ATTRIBUTES = ("title", "tags", "colour")


@pytest.fixture
def dataset(
    random_log: Callable[..., pl.DataFrame],
    random_items: Callable[..., pl.DataFrame],
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
) -> Dataset:
    events = build_events(random_log(0), random_items(0))
    return build(events, sentence=ATTRIBUTES, sentence_tokens=6)


def sentence_by_hand(tokenizer: Tokenizer, row: dict[str, object]) -> list[int]:
    ids: list[int] = []
    for name in ATTRIBUTES:
        value = row[name]
        text = " ".join(value) if isinstance(value, list) else value or ""
        key = [-i for i in tokenizer.encode(name, add_special_tokens=False).ids]
        ids += (key + tokenizer.encode(text, add_special_tokens=False).ids)[:6]
    return ids


def test_a_sentence_is_the_attributes_one_after_the_other(dataset: Dataset) -> None:
    tokenizer = Tokenizer.from_file(str(dataset.path / TOKENIZER))
    catalogue = pl.read_parquet(dataset.path / "catalogue.parquet")
    sentences = dataset.item_table["sentence"]
    (column,) = [c for c in dataset.schema.item_columns if c.kind == "sentence"]
    assert sentences.dtype == np.int32
    assert sentences.shape == (dataset.schema.num_items + 1, column.width)
    assert column.attributes == ATTRIBUTES
    assert not sentences[0].any()
    warm = dataset.schema.num_warm_items
    assert max((sentences[1 : warm + 1] != 0).sum(1)) == column.width
    for row, sentence in zip(catalogue.to_dicts(), sentences[1:], strict=True):
        expected = sentence_by_hand(tokenizer, row)[: column.width]
        assert sentence[sentence != 0].tolist() == expected
    assert (np.abs(sentences) < column.size).all()


def test_histories_are_sentences_newest_first(dataset: Dataset) -> None:
    sentences = dataset.item_table["sentence"]
    histories = Histories.of([[1, 2, 3], [], [2], [4, 1]])
    found = encode_histories(histories, ("tokens", "token_items"), 2, dataset.item_table)
    for row, items in enumerate([[3, 2], [], [2], [1, 4]]):
        expected, numbers = [0], [0]
        for number, item in enumerate(items, 1):
            real = sentences[item][sentences[item] != 0].tolist()
            expected += real
            numbers += [number] * len(real)
        padding = [0] * (found["tokens"].shape[1] - len(expected))
        assert found["tokens"][row].tolist() == expected + padding
        assert found["token_items"][row].tolist() == numbers + padding
    assert found["tokens"].dtype == found["token_items"].dtype == np.int64


def test_histories_without_events_are_one_column(dataset: Dataset) -> None:
    found = encode_histories(Histories.of([[], []]), ("tokens",), 5, dataset.item_table)
    assert found["tokens"].tolist() == [[0], [0]]


def test_one_history_is_encoded_as_among_others(dataset: Dataset) -> None:
    names, histories = ("tokens", "token_items"), Histories.of([[1, 5, 3], [2], [7, 7]])
    together = encode_histories(histories, names, 9, dataset.item_table)
    for row in range(3):
        alone = encode_histories(histories.take(slice(row, row + 1)), names, 9, dataset.item_table)
        for name in names:
            length = alone[name].shape[1]
            assert np.array_equal(together[name][row, :length], alone[name][0])
            assert not together[name][row, length:].any()


def test_values_of_any_kind_are_read_as_text() -> None:
    assert as_texts(pl.Series([["a", None, "b c"], None, []])) == ["a b c", "", ""]
    assert as_texts(pl.Series([1.5, None])) == ["1.5", ""]


def test_sentences_of_columns_that_are_not_there_are_refused(
    random_log: Callable[..., pl.DataFrame],
    random_items: Callable[..., pl.DataFrame],
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
) -> None:
    events = build_events(random_log(0), random_items(0))
    with pytest.raises(InputError, match=r"names \['brand'\]"):
        build(events, sentence=("title", "brand"))
    with pytest.raises(InputError, match="needs a column of kind text"):
        build(events, sentence=("colour",), item_columns=("colour",), name="other")
    with pytest.raises(ValueError, match="must name each column once"):
        build(events, sentence=("title", "title"))


def test_two_items_and_a_history_in_literal_ids() -> None:
    words = ["[PAD]", "title", "brand", "red", "city", "bike", "halden", "lamp", "glass"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}))
    tokenizer.pre_tokenizer = Whitespace()
    column = ItemColumn(
        name="sentence",
        kind="sentence",
        size=len(words),
        attributes=("title", "brand"),
        attribute_tokens=3,
    )
    rows = pl.DataFrame({"title": ["red city bike", "lamp"], "brand": ["halden", None]})
    sentences = encode_sentences(tokenizer, rows, column)
    # the name counts among the three tokens of an attribute: bike is cut
    assert [sentence.tolist() for sentence in sentences] == [[-1, 3, 4, -2, 6], [-1, 7, -2]]
    table = {"sentence": np.concatenate([np.zeros((1, 5), np.int32), pad_sentences(sentences, 5)])}
    found = encode_histories(Histories.of([[1, 2]]), ("tokens", "token_items"), 50, table)
    assert found["tokens"].tolist() == [[0, -1, 7, -2, -1, 3, 4, -2, 6]]  # the newest, 2, first
    assert found["token_items"].tolist() == [[0, 1, 1, 1, 2, 2, 2, 2, 2]]
