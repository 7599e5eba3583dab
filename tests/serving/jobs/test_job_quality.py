"""Quality figures of a job's result, against their definitions."""

from pathlib import Path

import polars as pl
import pytest

from features.errors import InputError
from serving.jobs.quality import Limit, measure


def write_lists(folder: Path, rows: list[tuple[int, str, list[int], list[float]]]) -> Path:
    folder.mkdir()
    schema = ["user_id", "degraded", "item_ids", "scores"]
    types = {"item_ids": pl.List(pl.Int64), "scores": pl.List(pl.Float32)}
    frame = pl.DataFrame(rows, schema, orient="row", schema_overrides=types)
    frame[: len(frame) // 2].write_parquet(folder / "part-00000.parquet")
    frame[len(frame) // 2 :].write_parquet(folder / "part-00001.parquet")
    return folder


def test_figures_by_hand(tmp_path: Path) -> None:
    rows = [
        (1, "", [10, 20], [2.0, 1.0]),
        (2, "no_history", [30], [9.0]),
        (3, "", [20], [4.0]),
        (4, "", [], []),
    ]
    figures = measure(write_lists(tmp_path / "a", rows), 6, None)
    assert figures["users"] == 4
    assert figures["fallback_share"] == 1 / 4
    assert figures["empty_share"] == 1 / 4
    assert figures["mean_items"] == 1.0
    assert figures["coverage"] == 3 / 6
    assert figures["score_quantiles"]["0.5"] == 3.0  # of 2 and 4: popularity's 9 is no such score
    assert "overlap" not in figures


def test_a_result_is_compared_with_the_one_before(tmp_path: Path) -> None:
    same = [(user, "", list(range(10)), [float(user)] + [0.0] * 9) for user in range(2_000)]
    moved = [(u, d, [9, 8, 7, 6, 5, 14, 13, 12, 11, 10], [s[0] + 500, *s[1:]])
             for u, d, _, s in same]  # fmt: skip
    a = write_lists(tmp_path / "a", same)
    b = write_lists(tmp_path / "b", moved)
    unchanged, changed = measure(a, 20, a), measure(b, 20, a)
    assert unchanged["overlap"] == 1.0
    assert unchanged["score_psi"] == pytest.approx(0, abs=1e-12)
    assert changed["overlap"] == 0.5
    assert changed["score_psi"] > 0.25
    with pytest.raises(InputError, match="holds no lists"):
        measure(a, 20, tmp_path)


def test_limits_are_sentences() -> None:
    limit = Limit.parse(" coverage >= 0.25 ")
    assert limit == Limit("coverage", at_most=False, value=0.25)
    assert limit.broken_by({"coverage": 0.25}) == ""
    assert limit.broken_by({"coverage": 0.2}) == "coverage is 0.2000, at least 0.25 is allowed"
    assert "is unknown" in limit.broken_by({})
    assert Limit.parse("score_psi<=1e-2").broken_by({"score_psi": 0.5})
    for wrong in ("coverage > 1", "beauty >= 1", "coverage >= much", "coverage >= 1-e"):
        with pytest.raises(InputError, match=r"is no limit|is not a number"):
            Limit.parse(wrong)
