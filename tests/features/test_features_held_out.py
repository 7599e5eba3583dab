"""Users held out whole: who is on which side, and what a case may read."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from data.build import build_events
from data.config import LogFiles, UserFile
from features.build import build_dataset
from features.config import FeatureConfig, HeldOutUsers
from features.errors import InputError
from features.held_out import columns_of_users, hold_out_users
from features.layout import CUTS
from features.splits import cut_points
from features.store import Dataset

OFFSETS = np.concatenate([[0], np.cumsum(np.arange(1, 41))])
"""40 users of 1 to 40 events."""
TIMES = np.arange(OFFSETS[-1])


def cut(groups: NDArray[np.int64] | None = None, **options: Any) -> dict[str, NDArray[np.int64]]:
    columns = {} if groups is None else {"group": groups}
    config = HeldOutUsers(group="" if groups is None else "group", **options)
    return hold_out_users(OFFSETS, TIMES, config, columns)


def part_of(cuts: dict[str, NDArray[np.int64]]) -> NDArray[np.str_]:
    trains = cuts["train_end"] > cuts["start"]
    validates = cuts["validation_end"] > cuts["validation_start"]
    tests = cuts["test_end"] > cuts["test_start"]
    assert (trains.astype(int) + validates + tests <= 1).all()
    return np.select([trains, validates, tests], ["train", "validation", "test"], "nobody")


def test_every_user_is_on_one_side_and_cut_in_half() -> None:
    cuts = cut(validation=0.2, test=0.3)
    assert (np.diff(np.stack([cuts[name] for name in CUTS]), axis=0) >= 0).all()
    parts, lengths = part_of(cuts), np.diff(OFFSETS)
    for user, part in enumerate(parts):
        start, end, n = OFFSETS[user], OFFSETS[user + 1], lengths[user]
        if part == "train":
            assert cuts["train_end"][user] == end
        elif part == "nobody":
            assert n == 1
        else:
            assert cuts["train_end"][user] == start
            assert cuts[f"{part}_start"][user] - start == max(n // 2, 1)
            assert cuts[f"{part}_end"][user] == end
    counts = {name: int((parts == name).sum()) for name in ("validation", "test")}
    assert 7 <= counts["validation"] <= 8
    assert 11 <= counts["test"] <= 12


def test_no_group_is_on_two_sides() -> None:
    groups = np.random.default_rng(0).integers(0, 9, 40)
    parts = part_of(cut(groups, validation=0.2, test=0.3))
    for group in range(9):
        mine = set(parts[(groups == group) & (parts != "nobody")])
        assert len(mine) <= 1
    assert set(parts) >= {"train", "validation", "test"}


def test_the_newest_test_and_those_before_validate() -> None:
    parts = part_of(cut(order="newest", validation=0.1, test=0.2))
    assert parts.tolist()[-8:] == ["test"] * 8
    assert parts.tolist()[-12:-8] == ["validation"] * 4
    assert set(parts[:28]) == {"train"}


def test_another_seed_holds_out_others() -> None:
    first, second, again = (part_of(cut(seed=seed)) for seed in (0, 1, 0))
    assert (first == again).all()
    assert (first != second).any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"given": 1.0}, "given=1.0"),
        ({"test": 0.0}, "must be above 0"),
        ({"newest_by": "at"}, "order='newest' only"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        HeldOutUsers(**options)


def test_a_log_in_parts_is_refused() -> None:
    with pytest.raises(InputError, match="no log in parts"):
        cut_points(None, HeldOutUsers(), None, np.ones(1, np.bool_))  # pyright: ignore


def test_columns_are_numbers_in_the_order_of_the_users(tmp_path: Path) -> None:
    path, users = tmp_path / "users.parquet", pa.array([7, 5, 9])
    with pytest.raises(InputError, match="is missing"):
        columns_of_users(path, ["list"], users)
    pl.DataFrame({"user_id": [5, 7, 9], "list": ["b", "a", "b"]}).write_parquet(path)
    assert columns_of_users(path, ["list"], users)["list"].tolist() == [1, 2, 2]
    with pytest.raises(InputError, match="lacks"):
        columns_of_users(path, ["genre"], users)
    with pytest.raises(InputError, match="for 1 of 2 users"):
        columns_of_users(path, ["list"], pa.array([5, 6]))


def test_a_dataset_of_snapshots_keeps_playlists_apart(tmp_path: Path) -> None:
    rows = [(p, f"s{p // 3}-{i}", 1_600_000_000 + 60 * p + i) for p in range(30) for i in range(6)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_parquet(tmp_path / "log.parquet")
    users = pl.DataFrame({"user_id": range(30), "playlist": [f"p{p // 3}" for p in range(30)]})
    users.write_parquet(tmp_path / "users.parquet")
    source = LogFiles(
        paths=(str(tmp_path / "log.parquet"),),
        users=UserFile(paths=(str(tmp_path / "users.parquet"),), columns=("playlist",)),
    )
    build_events(source, tmp_path / "events")
    split = HeldOutUsers(group="playlist", validation=0.2, test=0.2)
    build_dataset(tmp_path / "events", FeatureConfig(split=split), tmp_path / "dataset")
    data = Dataset.open(tmp_path / "dataset")
    cases = data.cases("test")
    assert len(cases) == 6
    trained = set(data.training_histories().items.tolist())
    assert data.schema.split["group"] == "playlist"
    histories = data.training_histories()
    seen = {
        item
        for start, end in zip(histories.starts, histories.ends, strict=True)
        for item in data.items[start:end].tolist()
    }
    held = {item for a, b in zip(cases.starts, cases.ends, strict=True) for item in data.items[a:b]}
    assert trained
    assert not seen & held, "a song of a test playlist was trained on: its snapshots straddle"
