"""Popularity by segment against counting by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.errors import InputError
from features.store import Dataset
from recsys.export.segment_config import SegmentConfig
from recsys.export.segments import segment_scores

USERS = ["ada", "bob", "cyd", "dan", "eve"]
ITEMS = [1, 2, 2, 3, 1, 1, 4, 4, 4, 2]
STARTS, ENDS = [0, 3, 5, 7, 9], [3, 5, 6, 9, 9]  # the sixth and the last event are not training


def dataset() -> Dataset:
    cuts = {"start": np.array(STARTS), "train_end": np.array(ENDS)}
    found = SimpleNamespace(
        items=np.array(ITEMS, np.int32),
        cuts=cuts,
        schema=SimpleNamespace(num_items=4),
        vocabulary=lambda name: pa.array(USERS),
    )
    return cast("Dataset", found)


def config(path: Path, **settings: Any) -> SegmentConfig:
    return SegmentConfig(users=str(path), column="country", **settings)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.parquet"
    rows = {
        "user_id": ["dan", "ada", "bob", "cyd", "zoe"],
        "country": ["fr", "de", "de", None, "us"],
    }
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_counts_of_the_segment_plus_everybodys_share(users: Path) -> None:
    names, scores = segment_scores(dataset(), config(users, least_events=2, prior=9.0))
    everybody = np.array([0, 3, 2, 1, 2]) / 8  # of all training events, in a segment or not
    assert names == ("de", "fr"), "us has no user here, cyd no country"
    np.testing.assert_allclose(scores[0], np.array([0, 2, 2, 1, 0]) + 9 * everybody, rtol=1e-6)
    np.testing.assert_allclose(scores[1], np.array([0, 0, 0, 0, 2]) + 9 * everybody, rtol=1e-6)


def test_small_segments_are_left_out_and_none_is_an_error(users: Path) -> None:
    assert segment_scores(dataset(), config(users, least_events=3))[0] == ("de",)
    with pytest.raises(InputError, match=r"no segment .* has 6 training events .*has 5"):
        segment_scores(dataset(), config(users, least_events=6))


def test_files_that_do_not_fit_are_refused(users: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read with user_id and land"):
        segment_scores(dataset(), SegmentConfig(users=str(users), column="land"))
    other = tmp_path / "other.parquet"
    pl.DataFrame({"user_id": ["ada", "ada"], "country": ["de", "fr"]}).write_parquet(other)
    with pytest.raises(InputError, match="2 rows of users more than once"):
        segment_scores(dataset(), config(other))
    pl.DataFrame({"user_id": [1], "country": ["de"]}).write_parquet(other)
    with pytest.raises(InputError, match="is Int64"):
        segment_scores(dataset(), config(other))
    pl.DataFrame({"user_id": ["zoe"], "country": ["de"]}).write_parquet(other)
    with pytest.raises(InputError, match="no country for any user"):
        segment_scores(dataset(), config(other))
