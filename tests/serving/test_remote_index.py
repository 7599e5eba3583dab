"""Search on another host answers like search in this process, belongs to one bundle version, and
may be lost. Qdrant's local mode stands for its server.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from features.encode import Histories
from serving.block import Block
from serving.bundle import Bundle, open_bundle
from serving.errors import BundleError, RequestError, StateError
from serving.handle import ServingHandle
from serving.index import ApproximateIndex, ExactIndex, VectorIndex
from serving.manifest import ModelSpec
from serving.policy import Cap, Policy, Window
from serving.recommender import Recommender
from serving.registry import Registry
from serving.remote_index import QdrantIndexes

NUM_ITEMS, DIM = 300, 8
NEVER = 1 << 60


class Unreliable(QdrantClient):
    """A client whose server can be taken away."""

    lost = False
    asked = 0

    def query_batch_points(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.lost:
            raise ResponseHandlingException(OSError("connection refused"))
        return super().query_batch_points(*args, **kwargs)


@pytest.fixture
def bundle(tmp_path: Path, make_toy: Callable) -> Bundle:
    vectors = np.random.default_rng(0).standard_normal((NUM_ITEMS + 1, DIM)).astype(np.float16)
    vectors[0] = 0
    return open_bundle(make_toy(tmp_path / "bundle", vectors=vectors).path)


@pytest.fixture
def indexes() -> QdrantIndexes:
    return QdrantIndexes("", client=Unreliable(":memory:"))


def spec_of(bundle: Bundle) -> ModelSpec:
    spec = bundle.manifest.sources[0]
    assert isinstance(spec, ModelSpec)
    return spec


def vectors_of(bundle: Bundle) -> np.ndarray:
    return bundle.array(spec_of(bundle).vectors, (NUM_ITEMS + 1, DIM), np.float16)


POLICIES = {
    "plain": Policy(exclude_seen=False),
    "seen": Policy(exclude_seen=True),
    "allow": Policy.of(NUM_ITEMS, exclude_seen=True, allow=np.arange(1, 40), deny=None),
    "deny": Policy.of(NUM_ITEMS, exclude_seen=True, allow=None, deny=np.arange(1, 40)),
    "window": Policy(
        exclude_seen=True,
        window=Window(np.where(np.arange(NUM_ITEMS + 1) % 9, NEVER, 0), np.full(301, NEVER)),
    ),
    "caps": Policy(
        exclude_seen=False, caps=(Cap(1, 1_000, NUM_ITEMS + 1, values=None, codes=None),)
    ),
}


@pytest.mark.parametrize("kind", ["approximate", "remote"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("k", [1, 25, 290])
def test_every_index_finds_what_exact_search_finds(
    kind: str, policy: str, k: int, bundle: Bundle, indexes: QdrantIndexes
) -> None:
    vectors = vectors_of(bundle)
    index: VectorIndex = ApproximateIndex(vectors)
    if kind == "remote":
        indexes.upload(bundle, spec_of(bundle))
        index = indexes.open(bundle, spec_of(bundle), vectors)
    queries = np.random.default_rng(1).standard_normal((3, DIM)).astype(np.float32)
    block = Block.of(Histories.of([[5, 6, 7], [], [40, 290]]), np.zeros(3, np.int64), NUM_ITEMS)
    exact = ExactIndex(vectors).search(queries, block, POLICIES[policy], k)
    found = index.search(queries, block, POLICIES[policy], k)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-3, atol=1e-3)
    assert (found.items == exact.items).mean() > 0.98  # equal scores may change places
    assert found.items.shape == exact.items.shape == (3, k)


def test_a_recommender_answers_alike_with_the_index_elsewhere(
    bundle: Bundle, indexes: QdrantIndexes
) -> None:
    indexes.upload(bundle, spec_of(bundle))
    near, far = Recommender.load(bundle.path), Recommender.load(bundle.path, indexes=indexes)
    for history in ([10, 20], [2990], [500, 40, 1230]):
        assert far.recommend(history).degraded == ()
        expected = [item.item_id for item in near.recommend(history).items]
        assert [item.item_id for item in far.recommend(history).items] == expected
    assert indexes.client.asked > 0  # pyright: ignore[reportAttributeAccessIssue]
    far.check_golden()


def test_what_is_not_this_bundles_collection_is_refused(
    bundle: Bundle, indexes: QdrantIndexes
) -> None:
    spec, client = spec_of(bundle), indexes.client
    with pytest.raises(StateError, match=f"no collection recsys-{bundle.version}-model"):
        Recommender.load(bundle.path, indexes=indexes)
    name = indexes.upload(bundle, spec)
    assert bundle.version in name
    client.delete(name, points_selector=[7])
    with pytest.raises(StateError, match="holds 299 vectors, the bundle 300"):
        Recommender.load(bundle.path, indexes=indexes)
    indexes.upload(bundle, spec)  # finishes what is incomplete
    Recommender.load(bundle.path, indexes=indexes)
    other = replace(bundle, sha256="0" * 64)
    assert indexes.collection(other, spec) != name
    with pytest.raises(BundleError, match="other vectors than the bundle, for instance of item"):
        indexes.open(bundle, spec, vectors_of(bundle)[::-1])
    client.delete_collection(name)
    client.create_collection(name, vectors_config={"a": _params(DIM)})
    with pytest.raises(BundleError, match="holds vectors of 0 compared by"):
        indexes.open(bundle, spec, vectors_of(bundle))


def _params(size: int) -> Any:
    from qdrant_client import models

    return models.VectorParams(size=size, distance=models.Distance.COSINE)


def test_a_lost_index_shows_in_the_answer_and_costs_a_batch(
    bundle: Bundle, indexes: QdrantIndexes
) -> None:
    indexes.upload(bundle, spec_of(bundle))
    recommender = Recommender.load(bundle.path, indexes=indexes)
    client = indexes.client
    assert isinstance(client, Unreliable)
    client.lost = True
    for _ in range(5):
        answer = recommender.recommend([10, 20])
        assert "skipped:model" in answer.degraded
        assert len(answer.items) == 10
    assert client.asked == 3  # then the breaker is open: nobody waits for it
    for histories in ([[1, 2]], [[1, 2], [3]]):
        with pytest.raises(StateError, match="skipped:model"):
            recommender.rank(Histories.of(histories), k=5, at=np.zeros(len(histories), np.int64))
        with pytest.raises(StateError, match="lacks a source"):
            recommender.candidates(Histories.of(histories), at=np.zeros(len(histories), np.int64))
    client.lost = False
    recommender.pipeline.sources[0].index._breaker._retry_at = 0.0  # pyright: ignore
    assert recommender.recommend([10, 20]).degraded == ()


def test_a_bundle_without_another_source_says_that_it_is_lost(
    tmp_path: Path, make_toy: Callable, indexes: QdrantIndexes
) -> None:
    bundle = open_bundle(make_toy(tmp_path / "alone", sources=("model",)).path)
    indexes.upload(bundle, spec_of(bundle))
    recommender = Recommender.load(bundle.path, indexes=indexes)
    indexes.client.lost = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(StateError, match="does not answer"):
        recommender.recommend([10])


def test_a_release_is_served_once_its_vectors_are_uploaded(
    tmp_path: Path, make_toy: Callable, bundle: Bundle, indexes: QdrantIndexes
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(bundle.path, canary=False)
    indexes.upload(bundle, spec_of(bundle))
    handle = ServingHandle.open(registry.path, canary=False, indexes=indexes)
    second = make_toy(tmp_path / "second", dim=5)
    registry.publish(second.path, canary=False)
    assert not handle.refresh()
    assert "no collection" in (handle.status.reason or "")
    assert handle.recommender.bundle_version == bundle.version
    uploaded = open_bundle(second.path)
    indexes.upload(uploaded, spec_of(uploaded))
    handle.indexes = QdrantIndexes("http://127.0.0.1:9", timeout=1)
    assert not handle.refresh()
    assert "does not answer" in (handle.status.reason or "")
    handle.indexes = indexes
    assert handle.refresh(), "what was missing does not refuse a release for good"
    assert handle.recommender.bundle_version == uploaded.version
    handle.close()


def test_a_server_that_is_not_there_is_no_fault_of_the_bundle(bundle: Bundle) -> None:
    nowhere = QdrantIndexes("http://127.0.0.1:9", timeout=1)
    with pytest.raises(StateError, match="does not answer"):
        Recommender.load(bundle.path, indexes=nowhere)


def test_items_are_not_added_to_a_remote_index(bundle: Bundle, indexes: QdrantIndexes) -> None:
    from serving.index import extend_index

    indexes.upload(bundle, spec_of(bundle))
    index = indexes.open(bundle, spec_of(bundle), vectors_of(bundle))
    with pytest.raises(RequestError, match="upload its vectors"):
        extend_index(index, vectors_of(bundle))
