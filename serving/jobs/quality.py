"""Is the result of a job plausible? Figures of its parts, beside those of the job before.

    fallback_share  users whose answer is not personal
    empty_share     users without a single item
    coverage        distinct items listed, as a share of the catalogue
    score quantiles of each user's best score
    score_psi       population stability index of those scores against the previous job's
                    (`features.stability`): below .1 nothing moved, from .25 much did
    overlap         mean share of a user's first 10 items that the previous job listed there too,
                    over a fixed sample of users in both

Parts are scanned in a stream: memory does not grow with users.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.errors import InputError
from features.stability import psi_of_numbers

SAMPLE = 64
"""One user of this many enters the overlap."""
OVERLAP_AT = 10
FIGURES = ("fallback_share", "empty_share", "mean_items", "coverage", "score_psi", "overlap")
"""That a limit can be put on."""
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of a result and what it must keep to be published."""

    figure: str
    at_most: bool
    value: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """From `figure <= value` or `figure >= value`; raises InputError."""
        found = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
        if not found or found[1] not in FIGURES:
            raise InputError(
                f"{text!r} is no limit: write a figure, <= or >=, and a number, for instance "
                f"'coverage >= 0.2'; figures are {', '.join(FIGURES)}"
            )
        try:
            return cls(found[1], found[2] == "<=", float(found[3]))
        except ValueError:
            raise InputError(f"{found[3]!r} in {text!r} is not a number") from None

    def broken_by(self, figures: Mapping[str, Any]) -> str:
        """A sentence where the figures break the limit or do not tell; empty where they keep it."""
        value = figures.get(self.figure)
        if value is None:
            return f"{self.figure} is unknown (was a previous result given to compare with?)"
        if value <= self.value if self.at_most else value >= self.value:
            return ""
        word = "at most" if self.at_most else "at least"
        return f"{self.figure} is {value:.4f}, {word} {self.value:g} is allowed"


def measure(directory: Path, num_items: int, previous: Path | None) -> dict[str, Any]:
    """Figures of the lists in `directory`; raises InputError where `previous` holds none."""
    parts = pl.scan_parquet(directory / "part-*.parquet")
    first_score = pl.col("scores").list.first()
    lists = pl.col("item_ids").list.len()
    summary = parts.select(
        users=pl.len(),
        fallback_share=(pl.col("degraded") != "").mean(),
        empty_share=(lists == 0).mean(),
        mean_items=lists.mean(),
    ).collect(engine="streaming")
    figures: dict[str, Any] = summary.row(0, named=True)
    items = parts.select(pl.col("item_ids").explode(empty_as_null=False).unique().len())
    figures["coverage"] = items.collect(engine="streaming").item() / num_items
    scores = _scores(parts, first_score)
    figures["score_quantiles"] = {
        f"{q:g}": float(np.quantile(scores, q)) if len(scores) else None for q in QUANTILES
    }
    if previous is not None:
        earlier = _previous(previous)
        figures["score_psi"] = psi_of_numbers(_scores(earlier, first_score), scores)
        figures["overlap"] = _overlap(earlier, parts)
    return figures


def _previous(path: Path) -> pl.LazyFrame:
    found = sorted(path.glob("part-*.parquet"))
    if not found or "item_ids" not in pl.read_parquet_schema(found[0]):
        raise InputError(f"{path} holds no lists of an earlier job to compare with")
    return pl.scan_parquet(found)


def _scores(parts: pl.LazyFrame, first: pl.Expr) -> np.ndarray:
    """Best score of every personal answer, float32: 4 bytes a user."""
    personal = parts.filter(pl.col("degraded") == "").select(first.alias("score"))
    return personal.collect(engine="streaming")["score"].drop_nulls().to_numpy()


def _overlap(before: pl.LazyFrame, after: pl.LazyFrame) -> float | None:
    def sample(parts: pl.LazyFrame) -> pl.LazyFrame:
        chosen = pl.col("user_id").hash(seed=0) % SAMPLE == 0
        return parts.filter(chosen).select("user_id", pl.col("item_ids").list.head(OVERLAP_AT))

    pairs = sample(after).join(sample(before), on="user_id", suffix="_before")
    now, then = pl.col("item_ids"), pl.col("item_ids_before")
    shared = now.list.set_intersection(then).list.len() / now.list.len()
    return pairs.select(shared.mean()).collect(engine="streaming").item()
