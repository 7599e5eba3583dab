"""The graph from an item's attributes to its vector: items need no training to be found.

Shape suffixes: N items, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.errors import BundleError
from serving.graphs import open_graph
from serving.topk import Floats

ROWS = 256
"""Items per run, always: equal attributes then give equal vectors to the last bit, whatever the
company, since no kernel is chosen by the number of rows."""


class ItemEncoder:
    """Attributes to vectors; immutable, safe to share between threads."""

    def __init__(self, graph: ort.InferenceSession, inputs: tuple[str, ...]) -> None:
        self._graph, self._inputs = graph, inputs

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
        """Vectors (N, D) float32 of N items, each attribute (N, ...)."""
        arrays = {name: attributes[name] for name in self._inputs}
        count = len(arrays[self._inputs[0]])
        parts = []
        for start in range(0, count, ROWS):
            rows = np.minimum(np.arange(start, start + ROWS), count - 1)
            output = self._graph.run(None, {name: x[rows] for name, x in arrays.items()})[0]
            assert isinstance(output, np.ndarray)
            parts.append(output[: count - start])
        return np.concatenate(parts)
