"""Those of whom little is known: new users by segment, items without metadata, retired items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.encode import Histories
from serving.block import Block, Context
from serving.bundle import open_bundle, seal
from serving.errors import BundleError
from serving.manifest import IndexRecall, PopularitySpec
from serving.options import Options
from serving.policy import Policy
from serving.popularity import PopularitySource
from serving.recommender import Recommender

NAMES = ("de", "fr")
SEGMENTS = np.array([[0, 5, 1, 4, 2], [0, 1, 9, 2, 8]], np.float32)
EVERYBODY = np.array([0, 1, 2, 3, 4], np.float32)


def test_each_segment_has_its_own_list_and_the_rest_everybodys() -> None:
    spec = PopularitySpec(
        name="popularity", scores="s", candidates=4, segments=NAMES, segment_scores="t"
    )
    source = PopularitySource(spec, EVERYBODY, SEGMENTS)
    histories = Histories.of([[], [2], [], [1]])
    context = Context(segments=np.array([0, 1, -1, 0]))
    block = Block.of(histories, np.zeros(4, np.int64), 4, context)
    found = source.propose(block, Policy(exclude_seen=True), 4)
    assert found.items.tolist() == [[1, 3, 4, 2], [4, 3, 1, 0], [4, 3, 2, 1], [3, 4, 2, 0]]
    assert found.scores[0].tolist() == [5, 4, 2, 1]


def with_segments(toy: Any, out: Path) -> Path:
    import shutil

    shutil.copytree(toy.path, out)
    for path in out.iterdir():
        path.chmod(0o644)
    scores = np.zeros((2, toy.num_items + 1), np.float32)
    scores[0, 7], scores[1, 9] = 10, 10
    np.save(out / "popularity.segments.npy", scores)
    manifest = open_bundle(toy.path).manifest
    update = {"segments": NAMES, "segment_scores": "popularity.segments.npy"}
    sources = [
        spec.model_copy(update=update) if isinstance(spec, PopularitySpec) else spec
        for spec in manifest.sources
    ]
    seal(out, manifest.model_copy(update={"sources": tuple(sources)}))
    return out


def test_a_new_user_gets_what_the_segment_likes(tmp_path: Path, toy: Any) -> None:
    recommender = Recommender.load(with_segments(toy, tmp_path / "bundle"))

    def first(**options: Any) -> Any:
        return recommender.recommend([], k=3, options=Options(**options)).items[0].item_id

    assert (first(segment="de"), first(segment="fr")) == (70, 90)
    assert first(segment="nowhere") == first() == 10 * int(np.argmax(toy.popularity[1:]) + 1)
    known = recommender.recommend([50], k=3, options=Options(segment="de"))
    assert known == recommender.recommend([50], k=3), "a history says more than a segment"


def test_segment_scores_must_fit(tmp_path: Path, toy: Any) -> None:
    path = with_segments(toy, tmp_path / "bundle")
    np.save(path / "popularity.segments.npy", np.zeros((3, 61), np.float32))
    seal(
        path,
        open_bundle(toy.path).manifest.model_copy(
            update={"sources": Recommender.load(toy.path).manifest.sources}
        ),
    )
    sources = with_segments(toy, tmp_path / "right")
    seal(path, open_bundle(sources).manifest)
    with pytest.raises(BundleError, match=r"popularity\.segments\.npy holds"):
        Recommender.load(path)


def test_an_item_without_metadata_is_recommended_and_explained(
    tmp_path: Path, make_toy: Callable
) -> None:
    """Item 28 has no genre and no price."""
    recommender = Recommender.load(make_toy(tmp_path / "bundle", attributes=True).path)
    assert np.isnan(recommender.item_table["price"][28])
    assert recommender.item_table["genre"][28] == 0
    answer = recommender.recommend([10], k=60)
    assert 280 in {item.item_id for item in answer.items}
    explained = recommender.explain([280, 10], k=3)
    assert len(explained.items) == 3


def test_retired_items_are_gone_for_good_and_the_old_object_is_unchanged(toy: Any) -> None:
    recommender = Recommender.load(toy.path)
    best = [item.item_id for item in recommender.recommend([50], k=2).items]
    smaller = recommender.retire_items(best[:1]).retire_items([best[1], 31_337])
    for asked in (smaller.recommend([50], k=60), smaller.recommend([], k=60)):
        assert not {item.item_id for item in asked.items} & set(best)
    listed = smaller.recommend([50], k=60, options=Options(policy=smaller.manifest.policy))
    assert not {item.item_id for item in listed.items} & set(best)
    assert [item.item_id for item in recommender.recommend([50], k=2).items] == best
    assert smaller.recommend(best, k=3).unknown == 0


def test_a_blind_index_is_refused(tmp_path: Path, toy: Any) -> None:
    path = with_segments(toy, tmp_path / "bundle")
    manifest = open_bundle(path).manifest
    low = IndexRecall(source="model", index="PQ4x4fs", k=10, queries=9, recall=0.42)
    seal(path, manifest.model_copy(update={"index_recall": (low,)}))
    with pytest.raises(BundleError, match=r"finds 0\.420 of the exact top 10"):
        Recommender.load(path)
    assert Recommender.load(path, min_recall=0.4).num_items == 60
