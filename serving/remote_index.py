"""Item vectors searched by Qdrant, for catalogues that one host should not search: an index like
those of `serving.index`, behind the same source.

    upload(bundle, QdrantIndexes(url))           once a bundle: `recsys upload-index`
    Recommender.load(path, indexes=QdrantIndexes(url))

A collection belongs to one source of one bundle version and is named after both, so that a new
release never meets the vectors of an old one. It is opened only if it holds as many points of the
width as the bundle, and the very vectors, which a sample shows. A server that is down or slow is a
StateError, after `failures` of them in a row at once: the pipeline answers without the source.

Shape suffixes: B queries, V dense item ids with padding, D width, M entries of a list, K results.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from serving.block import Block
from serving.breaker import Breaker
from serving.bundle import Bundle
from serving.candidates import Proposals
from serving.errors import BundleError, StateError
from serving.manifest import ModelSpec
from serving.policy import Policy
from serving.topk import NOTHING, Floats, compress

UPLOAD_ROWS = 1_024
SAMPLE = 16
"""Vectors compared when a collection is opened."""
TOLERANCE = 1e-3
"""Of a vector's greatest value: servers may keep half precision."""
DEEPER = 4
"""Factor by which more is asked for where filters left too little."""


class QdrantIndexes:
    """The collections of one Qdrant server. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 1.0,
        prefix: str = "recsys-",
        client: QdrantClient | None = None,
    ) -> None:
        """url: of the server; not connected to before it is needed. timeout: seconds, whole ones
        (the client rounds up). client: to use instead, for instance a local one in tests.
        """
        self._prefix = prefix
        self.client = client or QdrantClient(
            url=url, api_key=api_key, timeout=math.ceil(timeout), check_compatibility=False
        )

    def collection(self, bundle: Bundle, spec: ModelSpec) -> str:
        """Name of the collection of a source: it carries the bundle's version."""
        return f"{self._prefix}{bundle.version}-{spec.name}"

    def open(
        self, bundle: Bundle, spec: ModelSpec, vectors_VD: NDArray[np.float16]
    ) -> "QdrantIndex":
        """The index of a source. Raises BundleError for a collection of other vectors, StateError
        where it is not there or not whole yet, or the server does not answer.
        """
        name = self.collection(bundle, spec)
        with _reported():
            if not self.client.collection_exists(name):
                raise StateError(
                    f"the server has no collection {name}: run `recsys upload-index` for "
                    f"{bundle.path} before it is served"
                )
            size, distance = _geometry(self.client.get_collection(name))
            count = self.client.count(name, exact=True).count
            rows = np.unique(np.linspace(1, len(vectors_VD) - 1, SAMPLE).astype(np.int64))
            stored = self.client.retrieve(name, rows.tolist(), with_vectors=True)
        num_items, dim = len(vectors_VD) - 1, vectors_VD.shape[1]
        if (size, distance) != (dim, models.Distance.DOT):
            raise BundleError(
                f"collection {name} holds vectors of {size} compared by {distance}, the bundle's "
                f"are of {dim} compared by {models.Distance.DOT}: delete it and upload again"
            )
        if count != num_items:
            raise StateError(
                f"collection {name} holds {count} vectors, the bundle {num_items}: is it still "
                f"being uploaded? Run `recsys upload-index` again"
            )
        for point in stored:
            own = vectors_VD[int(point.id)].astype(np.float32)
            other = np.asarray(point.vector, np.float32)
            if not np.allclose(own, other, rtol=0, atol=TOLERANCE * float(np.abs(own).max())):
                raise BundleError(
                    f"collection {name} has other vectors than the bundle, for instance of item "
                    f"{point.id}: delete it and upload again"
                )
        return QdrantIndex(self.client, name, spec.name)

    def upload(
        self,
        bundle: Bundle,
        spec: ModelSpec,
        told: Callable[[int], None] = lambda rows: None,
    ) -> str:
        """Make the collection of a source, or finish one that was begun; its name. told: called
        with the number of vectors of each part. Raises StateError.
        """
        name = self.collection(bundle, spec)
        shape = (bundle.manifest.num_items + 1, spec.dim)
        vectors_VD = bundle.array(spec.vectors, shape, np.float16)
        params = models.VectorParams(size=spec.dim, distance=models.Distance.DOT)
        with _reported():
            if not self.client.collection_exists(name):
                self.client.create_collection(name, vectors_config=params)
            for start in range(1, len(vectors_VD), UPLOAD_ROWS):
                part_VD = vectors_VD[start : start + UPLOAD_ROWS].astype(np.float32)
                ids: list[Any] = list(range(start, start + len(part_VD)))
                batch = models.Batch(ids=ids, vectors=part_VD.tolist())
                self.client.upsert(name, batch, wait=True)
                told(len(ids))
        return name


class QdrantIndex:
    """One collection. Items are points, their dense ids the points' ids."""

    dense = False

    def __init__(self, client: QdrantClient, collection: str, source: str) -> None:
        self._client, self._collection = client, collection
        self.description = f"qdrant:{collection}"
        self._breaker = Breaker(f"the remote index of {source}")

    def search(self, queries_BD: Floats, block: Block, policy: Policy, k: int) -> Proposals:
        """The k best permitted items of each query that the server finds. Allow and deny lists
        filter on the server; what was seen, availability and caps are left out of longer lists.
        Raises StateError.
        """
        depth = min(policy.depth(block, k), block.num_items)
        permitted = _permitted(policy)
        while True:
            items_BM, scores_BM = self._breaker.call(
                lambda depth=depth: self._ask(queries_BD, depth, permitted)
            )
            keep_BM = policy.keep(items_BM, block)
            if depth >= block.num_items or policy.fills(keep_BM, block, k):
                return Proposals(*compress((items_BM, scores_BM), (0, NOTHING), keep_BM, k))
            depth = min(depth * DEEPER, block.num_items)

    def _ask(
        self, queries_BD: Floats, depth: int, permitted: models.Filter | None
    ) -> tuple[NDArray[np.int64], Floats]:
        """(B, depth) items and scores, best first; equal scores by item id."""
        requests = [
            models.QueryRequest(query=query.tolist(), limit=depth, filter=permitted)
            for query in queries_BD
        ]
        with _reported():
            answers = self._client.query_batch_points(self._collection, requests)
        items_BM = np.zeros((len(requests), depth), np.int64)
        scores_BM = np.full((len(requests), depth), NOTHING, np.float32)
        for row, answer in enumerate(answers):
            found = answer.points[:depth]
            items_BM[row, : len(found)] = [int(point.id) for point in found]
            scores_BM[row, : len(found)] = [point.score for point in found]
        order_BM = np.lexsort((items_BM, -scores_BM), axis=1)
        items_BM = np.take_along_axis(items_BM, order_BM, axis=1)
        return items_BM, np.take_along_axis(scores_BM, order_BM, axis=1)


def _permitted(policy: Policy) -> models.Filter | None:
    """Allow and deny lists as a filter of the server, whichever is shorter."""
    if policy.blocked is None:
        return None
    if len(policy.permitted) <= policy.num_blocked:
        return models.Filter(must=_ids(policy.permitted))
    return models.Filter(must_not=_ids(np.flatnonzero(policy.blocked[1:]) + 1))


def _ids(items: NDArray[np.int64]) -> models.HasIdCondition:
    points: list[Any] = items.tolist()
    return models.HasIdCondition(has_id=points)


def _geometry(info: models.CollectionInfo) -> tuple[int, models.Distance]:
    vectors: Any = info.config.params.vectors
    if not isinstance(vectors, models.VectorParams):
        return 0, models.Distance.DOT
    return vectors.size, vectors.distance


@contextmanager
def _reported() -> Iterator[None]:
    """Everything that the client raises, as one type."""
    try:
        yield
    except (ApiException, OSError, RuntimeError, ValueError) as error:
        raise StateError(f"the remote index does not answer: {str(error)[:200]}") from error
