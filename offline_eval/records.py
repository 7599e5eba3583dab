"""Parquet files of a report, written block by block: lists, and metric values per user."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_eval.metrics import Bools, Floats, Ints

PREDICTIONS_FILE = "predictions.parquet"
PER_USER_FILE = "per_user.parquet"


class BlockWriter(AbstractContextManager["BlockWriter"]):
    """A Parquet file of blocks with equal columns; memory holds one block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: Mapping[str, pa.Array | NDArray]) -> None:
        """Append rows."""
        table = pa.table(dict(columns))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def prediction_rows(
    system: str, user_ids: pa.Array, item_ids: pa.Array, lists_UK: Ints, hits_UK: Bools
) -> dict[str, pa.Array]:
    """`system, user_id, rank, item_id, hit`: a row a listed item, raw ids, rank 1 is the top.

    user_ids: (U,) raw ids of the rows. item_ids: element i is the raw id of dense id i + 1.
    """
    users, ranks = np.nonzero(lists_UK)
    return {
        "system": _repeated(system, len(users)),
        "user_id": user_ids.take(pa.array(users)),
        "rank": pa.array((ranks + 1).astype(np.int32)),
        "item_id": item_ids.take(pa.array(lists_UK[users, ranks] - 1)),
        "hit": pa.array(hits_UK[users, ranks]),
    }


def user_rows(
    system: str, user_ids: pa.Array, columns: Mapping[str, NDArray], values: Mapping[str, Floats]
) -> dict[str, pa.Array]:
    """`system, user_id`, the given columns, then one float column a metric; undefined is nan."""
    facts = {name: pa.array(column) for name, column in columns.items()}
    metrics = {name: pa.array(column.astype(np.float32)) for name, column in values.items()}
    return {"system": _repeated(system, len(user_ids)), "user_id": user_ids, **facts, **metrics}


def _repeated(text: str, count: int) -> pa.Array:
    indices = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array([text]))
