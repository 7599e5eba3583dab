"""The rules of schema.json: what the build makes of unseen values, serving makes of them too."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import ItemFile, LogFiles
from features.build import build_dataset
from features.config import FeatureConfig
from features.errors import InputError
from features.layout import ColumnRules, DatasetSchema
from features.store import Dataset
from serving.catalogue import Catalogue
from serving.errors import RequestError
from serving.new_items import ItemReader
from serving.requests import RequestReader

KINDS: Any = {"brand": "category", "path": "path", "price": "numeric"}
COLD = "z"
"""An item that only the test window has; its values are unseen in training."""
ROWS = {
    **{name: ("acme", ["home", "lamp"], 10.0 + number) for number, name in enumerate("abcd")},
    COLD: ("nova", ["home", "rug"], 999.0),
}


def built(folder: Path, **rules: ColumnRules) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    start = datetime(2024, 1, 1)
    events = [
        (user, "abcd"[(user + step) % 4], start + timedelta(hours=step * 10 + user), "view")
        for step in range(12)
        for user in range(5)
    ]
    events += [(user, COLD, start + timedelta(days=6), "buy") for user in range(5)]
    log = pl.DataFrame(
        events, schema=["user_id", "item_id", "timestamp", "event"], orient="row"
    ).sort("timestamp", maintain_order=True)
    log.write_parquet(folder / "log.parquet")
    items = [(name, *row) for name, row in ROWS.items()]
    pl.DataFrame(items, schema=["item_id", *KINDS], orient="row").write_parquet(
        folder / "items.parquet"
    )
    source = LogFiles(
        paths=(str(folder / "log.parquet"),),
        items=ItemFile(paths=(str(folder / "items.parquet"),), columns=KINDS),
    )
    build_events(source, folder / "events")
    build_dataset(folder / "events", FeatureConfig(rules=rules, buckets=2), folder / "dataset")
    return Dataset.open(folder / "dataset")


def reader(data: Dataset) -> tuple[ItemReader, Catalogue]:
    """As serving opens them: a bundle has these files of its dataset."""
    return ItemReader.load(data.path, data.schema), Catalogue.load(data.path, data.schema)


def asked(**changes: Any) -> list[dict[str, Any]]:
    brand, path, price = ROWS[COLD]
    return [{"item_id": "new", "brand": brand, "path": path, "price": price} | changes]


COERCED = {
    "by default": ({}, 999.0),
    "clipped": ({"price": ColumnRules(out_of_range="clip")}, 13.0),
    "clipped at a given end": ({"price": ColumnRules(out_of_range="clip", high=50)}, 50.0),
    "missing": ({"price": ColumnRules(out_of_range="unknown")}, np.nan),
}


@pytest.mark.parametrize("case", COERCED)
def test_serving_encodes_an_unseen_item_as_the_build_does(case: str, tmp_path: Path) -> None:
    rules, price = COERCED[case]
    data = built(tmp_path, **rules)
    cold = data.schema.num_items
    assert data.schema.num_warm_items == cold - 1
    items, catalogue = reader(data)
    new = items.read(asked(), catalogue)
    for name, values in data.item_table.items():
        np.testing.assert_array_equal(new.attributes[name][0], values[cold], err_msg=name)
    np.testing.assert_equal(float(new.attributes["price"][0]), price)
    assert new.attributes["brand"].tolist() == [1]
    assert new.columns["price"].to_list() == [999.0]  # what is shown is what was given


def test_the_schema_says_every_rule_and_the_range_of_training(tmp_path: Path) -> None:
    data = built(tmp_path, brand=ColumnRules(unknown_value="refuse"))
    told = json.loads((data.path / "schema.json").read_text())["rules"]
    assert set(told) == {"item_id", "event", "brand", "path", "price"}
    assert (told["price"]["low"], told["price"]["high"]) == (10.0, 13.0)
    assert told["brand"]["unknown_value"] == "refuse"
    assert told["event"]["unknown_value"] == "refuse"


REFUSED: dict[str, tuple[dict[str, ColumnRules], dict[str, Any], str]] = {
    "a brand": (
        {"brand": ColumnRules(unknown_value="refuse")},
        {},
        r"brand .* in 1 of 1 rows .*nova",
    ),
    "a path": ({"path": ColumnRules(unknown_value="refuse")}, {}, "path has values"),
    "a price": ({"price": ColumnRules(out_of_range="refuse")}, {}, "price lies outside 10 to 13"),
    "a type": ({}, {"price": "cheap"}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_rules_refuse_is_a_sentence(case: str, tmp_path: Path) -> None:
    rules, changes, reason = REFUSED[case]
    items, catalogue = reader(built(tmp_path, **rules))
    with pytest.raises(RequestError, match=reason):
        items.read(asked(**changes), catalogue)
    seen = asked(brand="acme", path=["home", "lamp"], price=12.0)
    assert len(items.read(seen, catalogue)) == 1


def test_a_wrong_type_may_count_as_missing(tmp_path: Path) -> None:
    lenient = ColumnRules(wrong_type="unknown")
    items, catalogue = reader(built(tmp_path, price=lenient, brand=lenient, path=lenient))
    wrong = asked(price="cheap", brand=7, path="home")
    for rows in (wrong, pl.DataFrame(wrong)):
        new = items.read(rows, catalogue)
        assert np.isnan(new.attributes["price"][0])
        assert new.attributes["path.1"].tolist() == [0]
        assert new.attributes["brand"].tolist() == [1]  # "7" is a text, and unknown
    converted = items.read(pl.DataFrame(asked(price="12.5")), catalogue)
    assert converted.attributes["price"].tolist() == [12.5]
    with pytest.raises(RequestError, match="item_id"):
        items.read(pl.DataFrame(asked(item_id=3)), catalogue)


def requests(data: Dataset) -> RequestReader:
    codes = {name: code for code, name in enumerate(data.schema.event_types, 1)}
    return RequestReader(Catalogue.load(data.path, data.schema), codes, 1, data.schema)


HISTORY = [("a", 1, "view"), ("nowhere", 2, "view"), ("b", 3, "swipe")]
FRAME = pl.DataFrame(HISTORY, schema=["item_id", "timestamp", "event"], orient="row").with_columns(
    user_id=pl.lit("u")
)


def test_events_of_unknown_items_and_behaviours(tmp_path: Path) -> None:
    strict = requests(built(tmp_path / "a", item_id=ColumnRules(unknown_value="refuse")))
    lenient = requests(built(tmp_path / "b", event=ColumnRules(unknown_value="unknown")))
    read: list[Callable[[RequestReader], Any]] = [
        lambda reader: reader.read(HISTORY, None),
        lambda reader: reader.read_frame(FRAME),
    ]
    for ask in read:
        with pytest.raises(RequestError, match=r"swipe|nowhere"):
            ask(strict)
        found = ask(lenient)
        assert found.histories.items.tolist() == lenient.read(["a"], None).histories.items.tolist()
        assert int(np.sum(found.unknown)) == 2
        assert found.at.tolist() == [3]
    known = [("a", 1, "view"), ("nowhere", 2, "view")]
    with pytest.raises(RequestError, match=r"1 events are on items .*nowhere"):
        strict.read(known, None)
    with pytest.raises(RequestError, match=r"1 events are on items .*nowhere"):
        strict.read_frame(FRAME.head(2))
    assert strict.read(["a"], None).unknown == 0
    with pytest.raises(RequestError, match="behaviour 3"):
        lenient.read([("a", 1, 3)], None)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"colour": ColumnRules()}, r"rules name \['colour'\]"),
        ({"brand": ColumnRules(out_of_range="clip")}, "only numeric columns have one"),
    ],
)
def test_rules_that_make_no_sense_are_refused(
    rules: dict[str, ColumnRules], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason):
        built(tmp_path, **rules)


def test_rules_are_checked_when_they_are_made_and_when_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"low = 3 is above high = 2"):
        ColumnRules(low=3, high=2)
    data = built(tmp_path)
    path = data.path / "schema.json"
    told = json.loads(path.read_text())
    told["rules"]["price"]["out_of_range"] = "shrug"
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="out_of_range = 'shrug'"):
        DatasetSchema.read(data.path)
    del told["rules"]  # of an older release
    path.write_text(json.dumps(told))
    assert DatasetSchema.read(data.path).rule("event").unknown_value == "refuse"
