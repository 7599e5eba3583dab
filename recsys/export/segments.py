"""Popularity by segment: what new users of a country, an age or a channel are likely to want.

Shape suffixes: S segments, V dense item ids with padding, E events of the training part.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from recsys.export.segment_config import SegmentConfig


def segment_scores(
    data: Dataset, config: SegmentConfig
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names, and (S, V) events of the training part by segment + prior * everybody's share.

    Raises InputError where the file does not fit or no segment is large enough.
    """
    names, segment_of_user = _segments(data, config)
    starts, ends = data.cuts["start"], data.cuts["train_end"]
    lengths = np.maximum(ends - starts, 0)
    rows_E = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    items_E = data.items[rows_E].astype(np.int64)
    segments_E = np.repeat(segment_of_user, lengths)
    width = data.schema.num_items + 1
    everybody_V = np.bincount(items_E, minlength=width).astype(np.float64)
    known = segments_E >= 0
    counts_SV = np.bincount(
        segments_E[known] * width + items_E[known], minlength=len(names) * width
    ).reshape(len(names), width)
    large = counts_SV.sum(axis=1) >= config.least_events
    if not large.any():
        most = counts_SV.sum(axis=1).max(initial=0)
        raise InputError(
            f"no segment of {config.users} has {config.least_events} training events (the largest "
            f"has {most}): lower least_events, or leave segments out"
        )
    share_V = everybody_V / max(everybody_V.sum(), 1)
    scores_SV = counts_SV[large] + config.prior * share_V
    kept = tuple(name for name, is_large in zip(names, large, strict=True) if is_large)
    return kept, scores_SV.astype(np.float32)


def _segments(data: Dataset, config: SegmentConfig) -> tuple[list[str], NDArray[np.int64]]:
    """Names of all segments, sorted, and the segment of each user of the dataset, -1 for none."""
    path = Path(config.users)
    try:
        frame = pl.read_parquet(path, columns=["user_id", config.column])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"segments: {path} cannot be read with user_id and {config.column}: {error}"
        ) from error
    if (repeated := int(frame["user_id"].is_duplicated().sum())) > 0:
        raise InputError(f"segments: {path} names {repeated} rows of users more than once")
    raw = pl.Series("user_id", data.vocabulary("user").to_pylist())
    if frame["user_id"].dtype.is_integer() != raw.dtype.is_integer():
        raise InputError(
            f"segments: user_id of {path} is {frame['user_id'].dtype}, the dataset's is {raw.dtype}"
        )
    joined = pl.DataFrame({"user_id": raw}).join(
        frame.with_columns(
            pl.col("user_id").cast(raw.dtype), pl.col(config.column).cast(pl.String)
        ),
        on="user_id",
        how="left",
        maintain_order="left",
    )
    names = sorted(joined[config.column].drop_nulls().unique().to_list())
    if not names:
        raise InputError(f"segments: {path} has no {config.column} for any user of the dataset")
    codes = joined[config.column].replace_strict(
        names, list(range(len(names))), default=-1, return_dtype=pl.Int64
    )
    return names, codes.fill_null(-1).to_numpy()
