"""Columns longer than memory: written piece by piece, then read as one mapped Arrow file."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.store import write_table


class AppendedColumns:
    """Grows columns of numbers in raw files beside `path`; closing makes the Arrow file of them.

    The Arrow file has one batch, so that a reader maps each column as one array.
    """

    def __init__(self, path: Path, dtypes: Mapping[str, type[np.generic]]) -> None:
        self._path, self._dtypes = path, dtypes
        self._raw = {name: path.with_name(f".{path.name}.{name}") for name in dtypes}
        self._streams = {name: raw.open("wb") for name, raw in self._raw.items()}

    def append(self, arrays: Mapping[str, NDArray]) -> None:
        """Add rows; every column must be there, all of one length."""
        for name, dtype in self._dtypes.items():
            np.ascontiguousarray(arrays[name], dtype).tofile(self._streams[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in self._streams.values():
            stream.close()
        if kind is None:
            columns = {}
            for name, dtype in self._dtypes.items():
                empty = not self._raw[name].stat().st_size
                columns[name] = np.empty(0, dtype) if empty else self._mapped(name)
            write_table(self._path, columns)
        for raw in self._raw.values():
            raw.unlink()

    def _mapped(self, name: str) -> NDArray:
        return np.memmap(self._raw[name], self._dtypes[name], mode="r")
