"""What kind of item comes next, as probabilities over the raw values of a category column."""

import numpy as np

from features.encode import Histories
from features.layout import vocabulary_file
from features.store import read_table
from serving.catalogue import RawId
from serving.errors import RequestError
from serving.model_source import ModelSource
from serving.parts import Parts

Likely = tuple[RawId, float]
"""A raw value and its probability."""


def likeliest(parts: Parts, history: Histories, column: str, k: int) -> list[Likely]:
    """The k likeliest values and their probabilities, best first, for a single history.

    Of use as a filter: a policy's `only` rule takes the values.

    Raises RequestError for an empty history and where no source predicts the column.
    """
    models = [source for source in parts.sources if isinstance(source, ModelSource)]
    able = [source for source in models if column in source.predicted]
    if not able:
        known = [name for source in models for name in source.predicted]
        raise RequestError(
            f"no source of this bundle predicts {column!r}: it predicts {known or 'no categories'}"
        )
    if not history.lengths[0]:
        raise RequestError("the history holds no known item: nothing tells what comes next")
    logits_C = able[0].category_logits(history, column)[0].astype(np.float64)
    shares_C = np.exp(logits_C - logits_C.max())
    shares_C /= shares_C.sum()
    raw = read_table(parts.path / vocabulary_file(column)).column("id").to_pylist()
    best = np.argsort(-shares_C, kind="stable")[:k]
    return [(raw[value], float(shares_C[value])) for value in best.tolist()]
