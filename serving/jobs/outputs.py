"""What a part holds: lists, rows or vectors, as a frame of exactly one user after another.

    lists    user_id, degraded, item_ids, scores, sources     one row a user
             and explanations, where they are asked for (`serving.jobs.explained`)
    rows     user_id, rank, item_id, score, source            one row a recommended item
    vectors  user_id, vector                                  null without a known history

degraded: empty for a personal answer; `no_history`, `unknown_items` or `no_candidates` where
popularity answered, as `Recommender.recommend` says it.
"""

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from serving.errors import BundleError, RequestError
from serving.jobs.explained import explanations
from serving.jobs.plan import ABOUT_ITEMS, Question
from serving.jobs.population import Population
from serving.model_source import ModelSource
from serving.ranked import Ranked
from serving.recommender import Recommender

REASONS = ("", "no_history", "unknown_items", "no_candidates")


def check_question(recommender: Recommender, question: Question) -> None:
    """Raise BundleError where the bundle cannot answer what is asked, RequestError where nothing
    can.
    """
    if question.explain and question.what != "lists":
        raise RequestError(f"explain={question.explain} goes with lists, not {question.what}")
    if question.what in ("vectors", *ABOUT_ITEMS):
        model_source(recommender)


def answer(recommender: Recommender, question: Question, asked: Population) -> pl.DataFrame:
    """The part's frame for the users of `asked`, in their order."""
    if question.what == "vectors":
        return user_vectors(recommender, asked)
    k = min(question.k, recommender.num_items)
    ranked = recommender.rank(asked.histories, k=k, at=asked.at)
    if question.what == "rows":
        return recommender.as_frame(asked.users, ranked)
    lists = aslist_column(recommender, asked, ranked)
    if not question.explain:
        return lists
    return lists.with_columns(explanations(recommender, asked, min(question.explain, k)))


def count_users(question: Question, frame: pl.DataFrame) -> int:
    """Users that a part's frame answers."""
    return frame["user_id"].n_unique() if question.what == "rows" else len(frame)


def degraded(recommender: Recommender, asked: Population, ranked: Ranked) -> pl.Series:
    """Why each answer is not personal, as `REASONS`."""
    last = len(recommender.source_names) - 1
    code_U = np.where(ranked.sources[:, 0] < max(last, 1), 0, 3)
    silent_U = asked.histories.lengths == 0
    code_U[silent_U] = np.where(asked.unknown[silent_U] > 0, 2, 1)
    return pl.Series("degraded", REASONS, dtype=pl.String).gather(code_U).alias("degraded")


def aslist_column(recommender: Recommender, asked: Population, ranked: Ranked) -> pl.DataFrame:
    """One row a user, the lists best first."""
    real_UK = ranked.items > 0
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(real_UK.sum(axis=1))])
    items, scores, sources = (
        part[real_UK] for part in (ranked.items, ranked.scores, ranked.sources)
    )
    raw_ids = recommender.raw_item_ids.gather(items)
    names = pl.Series(recommender.source_names, dtype=pl.String).gather(sources)
    return pl.DataFrame(
        {
            "user_id": asked.users,
            "degraded": degraded(recommender, asked, ranked),
            "item_ids": list_column(offsets, raw_ids),
            "scores": list_column(offsets, pl.Series(scores, dtype=pl.Float32)),
            "sources": list_column(offsets, names),
        }
    )


def list_column(offsets: NDArray[np.int64], values: pl.Series) -> pl.Series:
    """Lists from flat values: list i is values[offsets[i] : offsets[i + 1]]."""
    buffers = [None, pa.py_buffer(offsets)]  # `from_arrays` imports pandas where it is installed
    flat = values.rechunk().to_arrow()
    kind = pa.large_list(flat.type)
    series = pl.from_arrow(pa.Array.from_buffers(kind, len(offsets) - 1, buffers, children=[flat]))
    assert isinstance(series, pl.Series)
    return series


def user_vectors(recommender: Recommender, asked: Population) -> pl.DataFrame:
    """The first model's vectors, float32."""
    source = model_source(recommender)
    order = np.argsort(asked.histories.lengths, kind="stable")  # like lengths: little padding
    vectors_UD = np.empty((len(asked), source.dim), np.float32)
    vectors_UD[order] = source.encode(asked.histories.take(order))
    known = pl.Series(asked.histories.lengths > 0)
    column = pl.Series("vector", vectors_UD, dtype=pl.Array(pl.Float32, source.dim))
    frame = pl.DataFrame({"user_id": asked.users, "vector": column})
    return frame.with_columns(pl.when(known).then(pl.col("vector")))


def model_source(recommender: Recommender) -> ModelSource:
    """The first neural source; raises BundleError where the bundle has none."""
    for source in recommender.pipeline.sources:
        if isinstance(source, ModelSource):
            return source
    raise BundleError(
        f"the bundle has no neural source, its sources are {list(recommender.source_names)}: "
        f"export a trained model to get vectors"
    )
