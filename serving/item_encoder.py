"""The graph from an item's attributes to its vector: items need no training to be found.

Equal attributes give equal vectors to the last bit, whatever the company: the number of rows of a
run, by which kernels are chosen, depends on nothing but the width of what is encoded.

Shape suffixes: N items, U different ones, S tokens of a sentence, D width.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from features.encode import SENTENCE
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.topk import Floats

ROWS = 256
"""Items per run, always."""
TOKENS = 256
"""Tokens per run where items are sentences: what a processor's cache holds."""
WIDTH_STEP = 4
"""Sentences are padded to a multiple of as many tokens, and no further."""


class ItemEncoder:
    """Attributes to vectors; immutable, safe to share between threads."""

    def __init__(self, graph: ort.InferenceSession, inputs: tuple[str, ...]) -> None:
        self._graph, self._inputs = graph, inputs
        shape = graph.get_inputs()[0].shape
        self._any_width = inputs == (SENTENCE,) and not isinstance(shape[1], int)
        """Whether sentences may be given without their padding."""

    @classmethod
    def load(cls, path: Path, inputs: tuple[str, ...], dim: int) -> Self:
        """Open the graph; raises BundleError where it takes or gives something else."""
        graph = open_graph(path)
        names = tuple(node.name for node in graph.get_inputs())
        if names != inputs:
            raise BundleError(f"{path} takes {names}, the manifest says {inputs}")
        if (width := graph.get_outputs()[0].shape[-1]) != dim:
            raise BundleError(f"{path} gives vectors of {width}, the manifest says {dim}")
        return cls(graph, inputs)

    def encode(self, attributes: Mapping[str, NDArray]) -> Floats:
        """Vectors (N, D) float32 of N items, each attribute (N, ...); equal sentences once."""
        arrays = {name: attributes[name] for name in self._inputs}
        if self._any_width:
            return self._encode_sentences(arrays[SENTENCE])
        return self._run(arrays, ROWS)

    def _encode_sentences(self, sentences_NS: NDArray[np.int32]) -> Floats:
        first_U, inverse_N = distinct_rows(sentences_NS)
        sentences_US = sentences_NS[first_U]
        parts, order = [], []
        for rows, width in by_width(sentences_US):
            parts.append(self._run({SENTENCE: sentences_US[rows, :width]}, TOKENS // (width + 1)))
            order.append(rows)
        vectors_UD = np.empty((len(first_U), parts[0].shape[1]), np.float32)
        vectors_UD[np.concatenate(order)] = np.concatenate(parts)
        return vectors_UD[inverse_N]

    def _run(self, arrays: Mapping[str, NDArray], size: int) -> Floats:
        """Runs of `size` rows (at least 1), the last one filled up with its last row."""
        count, size = len(next(iter(arrays.values()))), max(size, 1)
        parts = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            output = self._graph.run(None, {name: x[rows] for name, x in arrays.items()})[0]
            assert isinstance(output, np.ndarray)
            parts.append(output[: count - start])
        return np.concatenate(parts)


def distinct_rows(rows_NS: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(U,) the first of each group of equal rows, and (N,) the group of each row.

    >>> first, group = distinct_rows(np.array([[3, 1], [2, 2], [3, 1]]))
    >>> sorted(first.tolist()), int(group[0]) == int(group[2])
    ([0, 1], True)
    """
    rows_NS = np.ascontiguousarray(rows_NS)
    keys_N = rows_NS.view(np.dtype((np.void, rows_NS.itemsize * rows_NS.shape[1]))).ravel()
    _, first_U, inverse_N = np.unique(keys_N, return_index=True, return_inverse=True)
    return first_U, inverse_N.ravel()


def by_width(sentences_US: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Rows of like length, and the width that holds them: a function of a row's own length."""
    longest = sentences_US.shape[1]
    length_U = longest - np.argmax(sentences_US[:, ::-1] != 0, 1)
    length_U[~(sentences_US != 0).any(1)] = 1
    width_U = np.minimum(-(-length_U // WIDTH_STEP) * WIDTH_STEP, longest)
    for width in np.unique(width_U):
        yield np.flatnonzero(width_U == width), int(width)
