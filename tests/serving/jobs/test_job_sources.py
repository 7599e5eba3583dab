"""What can be asked about: events, contexts, shards; and what is asked: lists or vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.errors import InputError
from serving.batch import REPORT
from serving.errors import BundleError, RequestError
from serving.recommender import Recommender
from tests.serving.batch_jobs import ask, write_events, write_shards


def test_vectors_are_those_of_the_encoder(toy: Any, tmp_path: Path) -> None:
    frame = write_events(tmp_path / "events.parquet", 40)
    ask(toy.path, tmp_path / "events.parquet", tmp_path / "out", what="vectors")
    found = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert found["user_id"].to_list() == list(range(40))
    for user, vector in found.iter_rows():
        history = frame.filter(pl.col("user_id") == user)["item_id"].to_numpy() // 10
        known = history[history <= 60]
        if not len(known):
            assert vector is None
            continue
        exact = toy.vectors.astype(np.float32)[known[-20:]].sum(axis=0)
        np.testing.assert_allclose(vector, exact, rtol=1e-5, atol=1e-5)


def test_a_bundle_without_a_model_has_no_vectors(make_toy: Any, tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "bundle", sources=("popularity",))
    write_events(tmp_path / "events.parquet", 4)
    with pytest.raises(BundleError, match="has no neural source"):
        ask(toy.path, tmp_path / "events.parquet", tmp_path / "out", what="vectors")


def test_contexts_are_answered_like_events_and_empty_ones_too(toy: Any, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.parquet", 30)
    ask(toy.path, tmp_path / "events.parquet", tmp_path / "by-events")
    contexts = events.group_by("user_id", maintain_order=True).agg(
        history="item_id", timestamps="timestamp"
    )
    new = pl.DataFrame({"user_id": [77], "history": [[]], "timestamps": [[]]}, contexts.schema)
    pl.concat([contexts[:10], new, contexts[10:]]).write_parquet(tmp_path / "contexts.parquet")
    ask(toy.path, tmp_path / "contexts.parquet", tmp_path / "by-contexts")
    answers = pl.read_parquet(tmp_path / "by-contexts" / "part-*.parquet")
    stranger = answers.row(10, named=True)
    assert (stranger["user_id"], stranger["degraded"]) == (77, "no_history")
    assert stranger["item_ids"] == [
        item.item_id for item in Recommender.load(toy.path).recommend([], k=5).items
    ]
    others = answers.filter(pl.col("user_id") != 77)
    assert others.equals(pl.read_parquet(tmp_path / "by-events" / "part-*.parquet"))


BAD_CONTEXTS = {
    "no user_id": (pl.DataFrame({"history": [[10]]}), "lack user_id"),
    "no lists": (pl.DataFrame({"user_id": [1], "history": [10]}), "must be lists"),
    "nulls": (pl.DataFrame({"user_id": [1, 2], "history": [[10], None]}), "hold nulls"),
    "a user twice": (pl.DataFrame({"user_id": [1, 1], "history": [[10], [20]]}), "repeat a user"),
    "other lengths": (
        pl.DataFrame({"user_id": [1], "history": [[10, 20]], "timestamps": [[5]]}),
        "another length of timestamps",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTEXTS)
def test_contexts_that_make_no_sense_are_refused(case: str, toy: Any, tmp_path: Path) -> None:
    frame, message = BAD_CONTEXTS[case]
    frame.write_parquet(tmp_path / "contexts.parquet")
    with pytest.raises(RequestError, match=message):
        ask(toy.path, tmp_path / "contexts.parquet", tmp_path / "out")


def test_a_folder_of_shards_is_answered_file_by_file(toy: Any, tmp_path: Path) -> None:
    everybody = write_shards(tmp_path / "shards", 4, 25)
    (tmp_path / "shards" / "_SUCCESS").touch()
    everybody.write_parquet(tmp_path / "one.parquet")
    ask(toy.path, tmp_path / "shards", tmp_path / "a")
    ask(toy.path, tmp_path / "shards" / "shard-*.parquet", tmp_path / "b")
    ask(toy.path, tmp_path / "one.parquet", tmp_path / "c", part_size=25)
    a, b, c = (pl.read_parquet(sorted((tmp_path / name).glob("part-*.parquet"))) for name in "abc")
    assert a.equals(b)
    assert a.equals(c)
    assert json.loads((tmp_path / "a" / REPORT).read_text())["users"] == 100


def test_a_user_in_two_shards_is_found(toy: Any, tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", 3, 25)
    write_events(tmp_path / "shards" / "shard-9.parquet", 5, first=30)
    with pytest.raises(InputError, match=r"5 users stand in several shards, the first is 30 in"):
        ask(toy.path, tmp_path / "shards", tmp_path / "out")
    assert not (tmp_path / "out").exists()
