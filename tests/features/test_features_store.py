"""A dataset comes back as it was written, memory-mapped, and a damaged one is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from features.config import LeaveOneOut
from features.encode import encode_histories
from features.errors import InputError
from features.layout import CUTS
from features.store import Dataset, read_table, to_arrays, write_table


@pytest.fixture
def dataset(
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
    random_log: Callable[..., pl.DataFrame],
    random_items: Callable[..., pl.DataFrame],
) -> Dataset:
    return build(build_events(random_log(7), random_items(7)), split=LeaveOneOut())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5, dtype=np.int32),
        np.array([1.5, np.nan], np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.zeros((0, 4), np.int32),
        np.zeros(0, np.uint8),
    ],
)
def test_arrays_come_back_from_disk(array: NDArray, tmp_path: Path) -> None:
    write_table(tmp_path / "a.arrow", {"x": array})
    found = to_arrays(read_table(tmp_path / "a.arrow"))["x"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert not found.flags.owndata
    assert not found.flags.writeable


def test_strings_and_empty_tables_come_back(tmp_path: Path) -> None:
    write_table(tmp_path / "a.arrow", {"id": pa.array(["x", "ü"])})
    assert read_table(tmp_path / "a.arrow").column("id").to_pylist() == ["x", "ü"]
    write_table(tmp_path / "b.arrow", {})
    assert to_arrays(read_table(tmp_path / "b.arrow")) == {}


def test_an_opened_dataset_is_a_view_of_the_mapped_files(dataset: Dataset) -> None:
    before = pa.total_allocated_bytes()
    opened = Dataset.open(dataset.path)
    assert pa.total_allocated_bytes() - before < 4_096  # nothing was read onto the heap
    arrays = [opened.items, opened.timestamps, opened.events]
    for array in (*arrays, *opened.cuts.values(), *opened.item_table.values()):
        assert not array.flags.owndata
        assert not array.flags.writeable
    assert set(opened.cuts) == set(CUTS)
    assert (opened.items.dtype, opened.timestamps.dtype, opened.events.dtype) == (
        np.int32,
        np.int64,
        np.uint8,
    )


@pytest.mark.parametrize("max_len", [1, 4, 1_000])
def test_windows_of_cases_equal_a_loop_over_users(dataset: Dataset, max_len: int) -> None:
    for split in ("validation", "test"):
        cases = dataset.cases(split)
        found = encode_histories(dataset.histories(cases), ("items",), max_len)["items"]
        users = [
            u
            for u in range(dataset.schema.num_users)
            if dataset.cuts[f"{split}_end"][u] > dataset.cuts[f"{split}_start"][u]
        ]
        assert cases.users.tolist() == users
        assert len(users) > 5
        for row, u in enumerate(users):
            start, cut = dataset.cuts["start"][u], dataset.cuts[f"{split}_start"][u]
            history = [int(dataset.items[i]) for i in range(start, cut)][-max_len:]
            assert found[row].tolist() == history + [0] * (found.shape[1] - len(history))


def test_training_histories_are_the_training_parts_of_users_who_have_one(
    build_events: Callable[..., Path],
    build: Callable[..., Dataset],
    random_log: Callable[..., pl.DataFrame],
) -> None:
    dataset = build(build_events(random_log(3)))  # by time: some users begin later
    histories = dataset.training_histories()
    parts = zip(dataset.cuts["start"], dataset.cuts["train_end"], strict=True)
    expected = [(a, b) for a, b in parts if b > a]
    assert list(zip(histories.starts, histories.ends, strict=True)) == expected
    assert len(expected) < dataset.schema.num_users


def test_one_flipped_byte_is_found_in_any_file(dataset: Dataset) -> None:
    for name in dataset.manifest.files:
        path = dataset.path / name
        content = path.read_bytes()
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        with pytest.raises(InputError, match=f"{name} is damaged: sha256|{name} cannot be read"):
            Dataset.open(dataset.path, verify=True)
        path.unlink()
        with pytest.raises(InputError, match=f"{name} is missing"):
            Dataset.open(dataset.path, verify=True)
        path.write_bytes(content)
    Dataset.open(dataset.path, verify=True)


@pytest.mark.parametrize("name", ["events.arrow", "schema.json"])
def test_an_unreadable_file_is_one_sentence(dataset: Dataset, name: str) -> None:
    (dataset.path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=f"{name} cannot be read .*build the dataset again"):
        Dataset.open(dataset.path)
