"""Jobs over the catalogue: vectors, and neighbours as single questions give them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import serving.index
from serving.batch import score
from serving.jobs.executors import local
from serving.jobs.plan import Question
from serving.recommender import Recommender


def test_item_vectors_are_those_of_the_bundle(toy: Any, tmp_path: Path) -> None:
    question = Question(what="item-vectors")
    score(toy.path, None, tmp_path / "out", question=question, part_size=17, executor=local(1))
    found = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert found["item_id"].to_list() == [10 * item for item in range(1, 61)]
    np.testing.assert_array_equal(found["vector"].to_numpy(), toy.vectors[1:].astype(np.float32))


@pytest.mark.parametrize("exact_below", [50_000, 10])
def test_similar_items_are_those_of_single_questions(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_below: int
) -> None:
    recommender = Recommender.load(toy.path)
    monkeypatch.setattr(serving.index, "EXACT_BELOW", exact_below)
    question = Question(what="similar-items", k=7)
    score(toy.path, None, tmp_path / "out", question=question, part_size=25, executor=local(1))
    found = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert len(found) == 60
    for item, similar, scores in found.iter_rows():
        expected = recommender.similar_items(item, k=7).items
        assert similar == [one.item_id for one in expected]
        assert scores == pytest.approx([one.score for one in expected], abs=1e-6)
