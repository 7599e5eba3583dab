"""Explanations of a batch are those of single requests."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.batch import score
from serving.errors import RequestError
from serving.jobs.explained import SHARES
from serving.jobs.plan import Question
from serving.recommender import Recommender
from tests.serving.batch_jobs import HERE, write_events


def test_explanations_are_those_of_single_requests(toy: Any, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.parquet", 12)
    question = Question(k=5, explain=2)
    score(toy.path, tmp_path / "events.parquet", tmp_path / "out", question=question, executor=HERE)
    answers = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    recommender = Recommender.load(toy.path)
    some_events = 0
    for row in answers.iter_rows(named=True):
        mine = events.filter(pl.col("user_id") == row["user_id"])
        single = recommender.explain(mine["item_id"].to_list(), k=2)
        assert [one["item_id"] for one in row["explanations"]] == row["item_ids"][:2]
        for found, expected in zip(row["explanations"], single.items, strict=True):
            assert found["item_id"] == expected.item.item_id
            assert [(p["source"], p["rank"]) for p in found["proposed"]] == [
                (p.source, p.rank) for p in expected.proposed
            ]
            assert [e["item_id"] for e in found["events"]] == [
                e.item_id for e in expected.events[:SHARES]
            ]
            assert [e["share"] for e in found["events"]] == pytest.approx(
                [e.share for e in expected.events[:SHARES]], rel=1e-5
            )
            some_events += len(found["events"])
    assert some_events > 20


def test_rows_and_vectors_are_not_explained(toy: Any, tmp_path: Path) -> None:
    write_events(tmp_path / "events.parquet", 3)
    question = Question(what="rows", explain=1)
    with pytest.raises(RequestError, match="goes with lists, not rows"):
        score(toy.path, tmp_path / "events.parquet", tmp_path / "out", question=question)
