"""A bundle made by hand: random vectors, and an encoder that adds up the vectors of a history.

And Debian's redis-server: on a socket of its own, nothing kept, gone afterwards.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from features.layout import CATALOGUE, ITEMS, DatasetSchema, ItemColumn, vocabulary_file
from features.store import write_table
from serving.bundle import seal, write_bundle
from serving.manifest import Manifest, ModelSpec, NeighbourSpec, PopularitySpec
from serving.policy_spec import PolicySpec

CUTOFF = 1_700_000_000_000_000
DAY = 86_400_000_000
GENRES, TAGS = ["action", "drama", "comedy"], ["a", "b", "c", "even", "odd"]
ATTRIBUTES = (
    ItemColumn(name="genre", kind="category", size=5),
    ItemColumn(name="tags", kind="categories", size=7, width=2),
    ItemColumn(name="price", kind="numeric"),
    ItemColumn(name="released", kind="timestamp"),
    ItemColumn(name="withdrawn", kind="timestamp"),
)


@dataclass(frozen=True)
class Toy:
    """What the toy bundle was made from, for tests to compute the right answer."""

    path: Path
    vectors: NDArray[np.float16]
    """(V, D), row 0 is 0."""
    votes: NDArray[np.float32]
    """(V, V) dense neighbour matrix."""
    popularity: NDArray[np.float32]
    """(V,)."""

    @property
    def num_items(self) -> int:
        return len(self.vectors) - 1

    def scores(self, history: list[int]) -> NDArray[np.float32]:
        """(V,) model scores in dense ids, -inf for padding."""
        exact = self.vectors.astype(np.float32)
        scores = exact @ exact[history].sum(axis=0)
        scores[0] = -np.inf
        return scores

    def best(self, history: list[int], k: int) -> list[int]:
        """The right answer of the model with seen items left out."""
        scores = self.scores(history)
        scores[history] = -np.inf
        order = np.lexsort((np.arange(len(scores)), -scores))
        return [int(item) for item in order[:k] if scores[item] > -np.inf]


def write_encoder(path: Path, vectors: NDArray[np.float16], poisoned: int | None) -> None:
    table = vectors.astype(np.float32)
    if poisoned is not None:
        table[poisoned] = np.nan
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "items"], ["embedded"]),
            helper.make_node("ReduceSum", ["embedded", "axis"], ["history"], keepdims=0),
        ],
        "encoder",
        [helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", vectors.shape[1]])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def write_item_encoder(directory: Path, dim: int) -> None:
    """Instead of the encoder above: items are what their genre says, also those to come."""
    made = {
        "model.encoder.onnx": helper.make_graph(
            [helper.make_node("ReduceSum", ["item.vector", "axis"], ["history"], keepdims=0)],
            "encoder",
            [helper.make_tensor_value_info("item.vector", TensorProto.FLOAT, ["b", "l", dim])],
            [helper.make_tensor_value_info("history", TensorProto.FLOAT, ["b", dim])],
            [numpy_helper.from_array(np.array([1]), "axis")],
        ),
        "model.items.onnx": helper.make_graph(
            [helper.make_node("Gather", ["table", "genre"], ["vectors"])],
            "items",
            [helper.make_tensor_value_info("genre", TensorProto.INT32, ["n"])],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", dim])],
            [numpy_helper.from_array(genre_vectors(dim), "table")],
        ),
    }
    for name, graph in made.items():
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (directory / name).write_bytes(model.SerializeToString())


def genre_vectors(dim: int) -> NDArray[np.float32]:
    """(5, D) what the item encoder gives for each value."""
    return 3 * np.eye(5, dim, dtype=np.float32)


def attribute_columns(num_items: int) -> dict[str, NDArray]:
    """Attributes by formula: genre i % 4 (0: none), tags i % 3 and i % 2, price i (nan: every
    7th), released i days before the end of training, withdrawn that long after it (0: odd ids)."""
    items = np.arange(num_items + 1)
    genre = np.where(items % 4 == 0, 0, items % 4 + 1)
    tags = np.stack([items % 3 + 2, items % 2 + 5], axis=1)
    price = np.where(items % 7 == 0, np.nan, items)
    released = CUTOFF - items * DAY
    withdrawn = np.where(items % 2 == 0, CUTOFF + items * DAY, 0)
    for column in (genre, tags, released, withdrawn):
        column[0] = 0
    return {
        "genre": genre.astype(np.int32),
        "tags": tags.astype(np.int32),
        "price": price.astype(np.float32),
        "released": released.astype(np.int64),
        "withdrawn": withdrawn.astype(np.int64),
    }


def write_catalogue(path: Path, raw_ids: NDArray[np.int64], *, described: bool) -> None:
    """described: with the columns that rows of new items must have; of these nothing is known."""
    columns = {"item_id": raw_ids, "title": [f"thing {raw}" for raw in raw_ids]}
    kinds = {"genre": pl.String, "tags": pl.List(pl.String), "price": pl.Float64}
    kinds |= dict.fromkeys(("released", "withdrawn"), pl.Datetime("us"))
    nulls = (pl.lit(None, kind).alias(name) for name, kind in kinds.items() if described)
    pl.DataFrame(columns).with_columns(*nulls).write_parquet(path)


def write_toy(
    out: Path,
    *,
    num_items: int = 60,
    dim: int = 8,
    sources: tuple[str, ...] = ("model", "item_knn", "popularity"),
    vectors: NDArray[np.float16] | None = None,
    poisoned: int | None = None,
    attributes: bool = False,
    policy: PolicySpec | None = None,
    encodes_items: bool = False,
) -> Toy:
    """poisoned: an item that makes the encoder give nan. attributes: see `attribute_columns`.
    encodes_items: see `write_item_encoder`; needs the attributes.
    """
    rng = np.random.default_rng(7)
    if vectors is None:
        vectors = rng.standard_normal((num_items + 1, dim)).astype(np.float16)
        vectors[0] = 0
    num_items, dim = len(vectors) - 1, vectors.shape[1]
    popularity = rng.integers(0, 20, num_items + 1).astype(np.float32)
    width = min(5, num_items - 1)
    rows = np.arange(1, num_items + 1)
    neighbours = (rows[:, None] - 1 + np.arange(1, width + 1)) % num_items + 1
    strength = np.sort(rng.random((num_items, width)).astype(np.float32))[:, ::-1]
    votes = np.zeros((num_items + 1, num_items + 1), np.float32)
    votes[rows[:, None], neighbours] = strength
    specs = {
        "model": ModelSpec(
            name="model",
            model="toy",
            encoder="model.encoder.onnx",
            inputs=("item.vector",) if encodes_items else ("items",),
            vectors="model.vectors.npy",
            max_len=20,
            dim=dim,
            candidates=10,
            item_encoder="model.items.onnx" if encodes_items else "",
            item_inputs=("genre",) if encodes_items else (),
        ),
        "item_knn": NeighbourSpec(
            name="item_knn",
            indptr="item_knn.indptr.npy",
            indices="item_knn.indices.npy",
            scores="item_knn.scores.npy",
            candidates=10,
        ),
        "popularity": PopularitySpec(
            name="popularity", scores="popularity.scores.npy", candidates=10
        ),
    }
    schema = DatasetSchema(
        num_users=1,
        num_items=num_items,
        num_warm_items=num_items,
        cold_targets=0,
        num_events=1,
        event_types=("view", "buy"),
        target_events=("buy",),
        item_columns=ATTRIBUTES if attributes else (),
        title_column="title",
        raw_item_type="int",
        raw_user_type="int",
        cutoff=CUTOFF,
        split={},
    )
    raw_ids = rows * 10
    with write_bundle(out) as directory:
        write_encoder(directory / "model.encoder.onnx", vectors, poisoned)
        if encodes_items:
            write_item_encoder(directory, dim)
        np.save(directory / "model.vectors.npy", vectors)
        indptr = np.concatenate([[0], np.arange(num_items + 1) * width])
        np.save(directory / "item_knn.indptr.npy", indptr)
        np.save(directory / "item_knn.indices.npy", neighbours.astype(np.int32).ravel())
        np.save(directory / "item_knn.scores.npy", strength.ravel())
        np.save(directory / "popularity.scores.npy", popularity)
        schema.write(directory)
        write_table(directory / vocabulary_file("item"), {"id": raw_ids})
        table = {"id": np.arange(num_items + 1)}
        if attributes:
            table |= attribute_columns(num_items)
            write_table(directory / vocabulary_file("genre"), {"id": pa.array(GENRES)})
            write_table(directory / vocabulary_file("tags"), {"id": pa.array(TAGS)})
        write_table(directory / ITEMS, table)
        write_catalogue(directory / CATALOGUE, raw_ids, described=encodes_items)
        draft = Manifest(
            dataset="0" * 64,
            run="",
            num_items=num_items,
            sources=tuple(specs[name] for name in sources),
            policy=policy or PolicySpec(),
            config={},
        )
        seal(directory, draft)
    return Toy(out, vectors, votes, popularity)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Sixty items with raw ids 10, 20, ..., three sources, no ranker. Not to be changed."""
    return write_toy(tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., Toy]:
    """Writes a toy bundle with other sizes, sources or vectors."""
    return write_toy


class RedisServer:
    """One server that tests may stop, freeze and start again."""

    def __init__(self, directory: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        self._binary, self._directory = binary, directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir"]
        self.process = subprocess.Popen(
            [self._binary, *arguments, str(self._directory)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < deadline, "redis-server did not start"
            assert self.process.poll() is None, "redis-server ended at once"
            time.sleep(0.01)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running server; a test that stops or freezes it starts it again."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.thaw()
    server.stop()
