"""Bundles that are out in the world: each format's real bundle must load and answer as it did."""

from pathlib import Path

import pytest

from serving.recommender import Recommender

V1 = Path(__file__).parents[1] / "bundles" / "v1"
HISTORY = ["P00044", "P00087", "P00060"]


def test_the_bundle_of_format_1_answers_as_on_the_day_it_was_made() -> None:
    recommender = Recommender.load(V1)
    recommender.check_golden()
    answer = recommender.recommend(HISTORY, k=5)
    assert answer.bundle_version == "2be68e40c96d"
    assert answer.degraded == ()
    assert [item.item_id for item in answer.items] == [
        "P00080",
        "P00033",
        "P00008",
        "P00092",
        "P00057",
    ]
    scores = [item.score for item in answer.items]
    assert scores == pytest.approx([0.9132, 0.8062, 0.3237, 0.1847, 0.1687], abs=1e-3)
    assert answer.items[0].title
    similar = [item.item_id for item in recommender.similar_items("P00044", k=3).items]
    assert similar == ["P00093", "P00033", "P00011"]


def test_the_bundle_of_format_1_falls_back_for_strangers() -> None:
    answer = Recommender.load(V1).recommend(["no such item"], k=3)
    assert answer.degraded == ("unknown_items",)
    assert {item.source for item in answer.items} == {"popularity"}
