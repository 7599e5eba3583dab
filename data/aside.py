"""Rows of a log that cannot be used: an error that names the first, or a file beside the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from features.errors import InputError

FILE_ROW = "file_row"
"""The row's number in its file, from 1, while a log is read."""
REJECTED = "rejected.jsonl"
SHOWN = 3


@dataclass
class Aside:
    """What becomes of bad rows: an error that names the first or, with `skip`, they are kept."""

    skip: bool = False
    rows: list[pl.DataFrame] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(frame) for frame in self.rows)

    def sift(
        self, frame: pl.DataFrame, where: object, column: str, wanted: str, bad: pl.Expr
    ) -> pl.DataFrame:
        """The rows of `frame` that are not `bad`. Raises InputError, unless rows may be skipped.

        where: the file. column: what is wrong with the row. wanted: what was expected of it.
        """
        numbered = frame if FILE_ROW in frame.columns else frame.with_row_index(FILE_ROW, offset=1)
        value = pl.col(column).cast(pl.String)
        wrong = numbered.filter(bad).select(FILE_ROW, value=value)
        if wrong.is_empty():
            return frame
        if not self.skip:
            row, found = wrong.row(0)
            shown = "nothing" if found is None else repr(found)
            raise InputError(
                f"{where}: {len(wrong)} of {len(frame)} rows have a {column} that is not {wanted} "
                f"(first: row {row}, {shown}): mend them, correct the configuration, or give "
                f"--on-error skip to leave them out"
            )
        self.rows.append(
            wrong.select(
                file=pl.lit(str(where)),
                row=pl.col(FILE_ROW).cast(pl.Int64),
                column=pl.lit(column),
                value="value",
                expected=pl.lit(wanted),
            )
        )
        return frame.filter(~bad.fill_null(value=False))

    def lines(self) -> str:
        """The rows as JSON Lines, and none are kept any longer: file, row, column, value."""
        text = pl.concat(self.rows).write_ndjson() if self.rows else ""
        self.rows.clear()
        return text


def needed(wanted: Mapping[str, str]) -> dict[str, tuple[str, pl.Expr]]:
    """Of each column that must be there: what is wanted of it, and where it is missing."""
    return {name: (text, pl.col(name).is_null()) for name, text in wanted.items()}
