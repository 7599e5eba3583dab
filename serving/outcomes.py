"""What will happen to a person: dated events in, calibrated probabilities out.

    events -> documents (life_requests) -> graph -> calibration (calibration) -> a row a person

`run` is the one inner path: single requests, frames, batch jobs and evaluation all go through it.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import InputError
from features.life_encode import Documents, encode_documents, token_counts
from features.life_layout import LifeSchema
from serving.bundle import Bundle, open_bundle
from serving.calibration import calibrate
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.life_requests import LifeReader

BATCH_TOKENS = 16_384
"""Tokens, padding included, that a thread works on at once."""
GOLDEN_TOLERANCE = 1e-4
Floats32 = NDArray[np.float32]


class Predicted(NamedTuple):
    """probabilities: (B, P), calibrated. persons: (B, D), for look-alikes and rankers."""

    probabilities: Floats32
    persons: Floats32


class OutcomePredictor:
    """Predicts from one bundle. Ready once constructed, immutable, safe to share between threads.

    `OutcomePredictor.load(path)` is the way in; a bundle that does not load raises BundleError.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """From files that are known to be whole; everyone but the export uses `load`."""
        spec = bundle.manifest.outcomes
        if spec is None:
            raise BundleError(
                f"{bundle.path} holds no outcome model: it recommends items, load it with "
                f"Recommender, or export a run of an outcome model"
            )
        try:
            self.schema = LifeSchema.read(bundle.path / spec.schema_file)
        except InputError as error:
            raise BundleError(str(error)) from error
        columns = [name for outcome in self.schema.outcomes for name in outcome.columns]
        if sum(c.width for c in spec.calibration) != len(columns):
            raise BundleError(f"{bundle.path}: the calibration does not fit {columns}")
        self.path, self.spec = bundle.path, spec
        self.columns = tuple(columns)
        """Names of the probabilities, in order."""
        self.manifest = bundle.manifest
        self.bundle_version, self.bundle_sha256 = bundle.version, bundle.sha256
        items = pl.read_parquet(bundle.path / spec.items) if spec.items else None
        self.reader = LifeReader(self.schema, items)
        self._graph, self._threads = open_graph(bundle.path / spec.graph), threads

    @classmethod
    def load(cls, path: Path, *, threads: int = 1) -> Self:
        """Verify and open a bundle; raises BundleError and never half succeeds.

        threads: for answers to many persons at once.
        """
        return cls(open_bundle(path), threads=threads)

    def predict(
        self,
        events: pl.DataFrame,
        persons: pl.DataFrame | None = None,
        *,
        at: datetime | date | None = None,
        embedding: bool = False,
    ) -> pl.DataFrame:
        """A row a person: user_id and the probabilities of the bundle's outcomes.

        events: user_id, timestamp and the columns the model was trained on; persons: background.
        at: events from this moment on are left out (UTC). embedding: also the person's vector, a
        list of floats. Raises RequestError for what cannot be read.
        """
        request = self.reader.read(events, persons, at)
        return self.as_frame(request.users, self.run(request.documents), embedding=embedding)

    def as_frame(
        self, users: pl.Series, predicted: Predicted, *, embedding: bool = False
    ) -> pl.DataFrame:
        """Persons and what is predicted of them."""
        columns = dict(zip(self.columns, predicted.probabilities.T, strict=True))
        frame = pl.DataFrame({"user_id": users, **columns})
        if embedding:
            vectors = pl.Series(
                "embedding", predicted.persons, dtype=pl.Array(pl.Float32, self.dim)
            )
            frame = frame.with_columns(vectors.arr.to_list())
        return frame

    @property
    def dim(self) -> int:
        """Width of a person's vector."""
        return self.spec.dim

    def run(self, documents: Documents) -> Predicted:
        """Predictions of any number of documents, in their order."""
        probabilities = np.zeros((len(documents), len(self.columns)), np.float32)
        persons = np.zeros((len(documents), self.dim), np.float32)

        def work(rows: NDArray[np.int64]) -> None:
            inputs = encode_documents(documents.take(rows), self.schema, self.spec.max_len)
            found = self._graph.run(None, {name: inputs[name] for name in self.spec.inputs})
            probabilities[rows] = self._calibrated(np.asarray(found[0]))
            persons[rows] = np.asarray(found[1])

        batches = list(self._batches(documents))
        if self._threads == 1 or len(batches) == 1:
            for rows in batches:
                work(rows)
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(work, batches))
        return Predicted(probabilities, persons)

    def _batches(self, documents: Documents) -> Iterator[NDArray[np.int64]]:
        """Rows of like length, so that little is padding; the longest first."""
        lengths = np.minimum(token_counts(documents), self.spec.max_len)
        order, first = np.argsort(-lengths, kind="stable"), 0
        while first < len(order):
            size = max(BATCH_TOKENS // int(lengths[order[first]]), 1)
            yield order[first : first + size]
            first += size

    def _calibrated(self, raw_BP: NDArray[np.float32]) -> Floats32:
        parts, first = [], 0
        for calibration in self.spec.calibration:
            columns = raw_BP[:, first : first + calibration.width]
            parts.append(calibrate(calibration, columns.astype(np.float64)))
            first += calibration.width
        return np.concatenate(parts, axis=1).astype(np.float32)

    def raw(self, documents: Documents) -> Floats32:
        """Probabilities before calibration, (B, P): what calibration is fitted on."""
        found = np.zeros((len(documents), len(self.columns)), np.float32)
        for rows in self._batches(documents):
            inputs = encode_documents(documents.take(rows), self.schema, self.spec.max_len)
            outputs = self._graph.run(None, {name: inputs[name] for name in self.spec.inputs})
            found[rows] = np.asarray(outputs[0])
        return found

    def answer(self, inputs: Mapping[str, NDArray]) -> Floats32:
        """Calibrated probabilities (B, P) of encoded documents."""
        outputs = self._graph.run(None, {name: inputs[name] for name in self.spec.inputs})
        return self._calibrated(np.asarray(outputs[0]))

    def check_golden(self) -> None:
        """Raise BundleError unless every stored request has its stored answer."""
        for number, golden in enumerate(self.spec.golden):
            inputs = {
                "tokens": np.array([golden.tokens], np.int64),
                "days": np.array([golden.days], np.float32),
                "ages": np.array([golden.ages], np.float32),
                "segments": np.array([golden.segments], np.int64),
            }
            found = self.answer(inputs)[0]
            gap = float(np.abs(found - np.array(golden.expected)).max())
            if not gap <= GOLDEN_TOLERANCE:
                raise BundleError(
                    f"golden request {number} gives other probabilities than at export (by "
                    f"{gap:.2g}): this machine or its onnxruntime computes something else"
                )
