"""schema.json survives the disk, and another release's is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from features.errors import InputError
from features.layout import DatasetSchema, ItemColumn, vocabulary_file

SCHEMA = DatasetSchema(
    num_users=3,
    num_items=5,
    num_warm_items=4,
    num_events=9,
    event_types=("view", "buy"),
    target_events=("buy",),
    cold_targets="keep",
    item_columns=(
        ItemColumn(name="title", kind="text", size=300, width=8),
        ItemColumn(name="price", kind="numeric"),
    ),
    title_column="title",
    raw_item_type="str",
    raw_user_type="int",
    cutoff=1_700_000_000_000_000,
    split={"name": "leave-one-out"},
)


def test_a_schema_comes_back_equal(tmp_path: Path) -> None:
    SCHEMA.write(tmp_path)
    assert DatasetSchema.read(tmp_path) == SCHEMA


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c | {"invented": 1},
        lambda c: {k: v for k, v in c.items() if k != "cutoff"},
        lambda c: c | {"item_columns": [{"name": "x", "kind": "text", "colour": 1}]},
        lambda c: [c],
    ],
)
def test_other_fields_are_refused(edit: Callable, tmp_path: Path) -> None:
    SCHEMA.write(tmp_path)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=r"schema.json cannot be read .*build the dataset again"):
        DatasetSchema.read(tmp_path)


def test_a_missing_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"schema.json cannot be read"):
        DatasetSchema.read(tmp_path)


def test_vocabulary_files_are_named_after_their_column() -> None:
    assert vocabulary_file("colour") == "vocabulary-colour.arrow"
