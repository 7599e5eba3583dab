import json
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from features.errors import InputError
from features.stage import write_stage
from offline_eval.compare import RunComparison, compare
from offline_eval.comparison_views import (
    comparison_markdown,
    comparison_page,
    print_comparison,
    verdict,
)
from offline_eval.records import PER_USER_FILE, BlockWriter, user_rows
from offline_eval.report import METRICS_FILE, Report, System
from offline_eval.significance import Estimate, estimate_means


def write_report(
    out: Path, ndcg: np.ndarray, *, split: str = "test", first_user: int = 0, popular: float = 0.3
) -> Path:
    """A report over a bundle and recent popularity; users not in the order of their ids."""
    order = np.random.default_rng(len(out.name)).permutation(len(ndcg))
    nothing = np.full(len(ndcg), np.nan)
    values = {
        "bundle": {"ndcg@10": ndcg[order], "auc": nothing},
        "recent_popularity": {"ndcg@10": np.full(len(ndcg), popular), "auc": nothing},
    }
    estimates = {
        name: dict(zip(found, estimate_means(np.stack(list(found.values()), 1)), strict=True))
        for name, found in values.items()
    }
    for found in estimates.values():
        found["coverage@10"] = Estimate(0.5, 0.4, 0.6, len(ndcg), 0)  # has no value a user
    report = Report(
        title=out.name,
        protocol={"split": split},
        counts={},
        systems=[
            System(name="bundle", kind="bundle", estimates=estimates["bundle"]),
            System(
                name="recent_popularity",
                kind="baseline",
                estimates=estimates["recent_popularity"],
            ),
        ],
        comparisons=[],
        notes=[],
        ks=(10,),
        main_k=10,
        ceiling={},
        cuts=[],
        two_stages=[],
        examples=[],
    )
    with write_stage(out, kind="report", config={}, parent="") as directory:
        (directory / METRICS_FILE).write_text(report.to_json())
        with BlockWriter(directory / PER_USER_FILE) as users:
            for name, found in values.items():
                users.write(user_rows(name, pa.array(order + first_user), {}, found))
    return out


@pytest.fixture
def ndcg() -> np.ndarray:
    return np.random.default_rng(0).random(200)


def told(found: RunComparison, width: int = 80) -> str:
    text = StringIO()
    print_comparison(found, Console(file=text, width=width))
    return text.getvalue()


def test_a_better_run_is_told_so_everywhere(tmp_path: Path, ndcg: np.ndarray) -> None:
    better = ndcg + 0.02 + np.random.default_rng(1).normal(0, 0.01, 200)
    runs = [("old", write_report(tmp_path / "a", ndcg)),
            ("new", write_report(tmp_path / "bb", better))]  # fmt: skip
    found = compare(runs)
    one = next(c for c in found.comparisons if (c.first, c.second) == ("new", "old"))
    assert one.difference.value == pytest.approx((better - ndcg).mean(), rel=1e-5)
    assert one.p_holm < 0.01
    assert verdict(one).startswith("new beats old on NDCG@10: +0.0")
    assert {entry.name: entry.letters for entry in found.entries} == {
        "new": "a",
        "old": "b",
        "recent_popularity": "c",
    }
    assert found.users == 200
    text = told(found)
    assert max(map(len, text.splitlines())) <= 80
    for drawn in (text, comparison_markdown(found), comparison_page(found)):
        for expected in ("NDCG@10", "new", "old", "recent_popularity", found.fingerprint):
            assert expected in drawn
    assert json.loads(found.to_json())["entries"][0]["estimates"]["auc"]["value"] is None
    assert "http" not in comparison_page(found)


def test_a_worse_and_an_equal_run(tmp_path: Path, ndcg: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 200)
    first = ("old", write_report(tmp_path / "a", ndcg))
    equal = ("equal", write_report(tmp_path / "bb", ndcg + noise - noise.mean()))
    worse = ("worse", write_report(tmp_path / "ccc", ndcg - 0.1))
    text = " ".join(told(compare([first, equal, worse])).split())
    assert "equal does NOT beat old on NDCG@10" in text
    assert "would usually show" in text
    assert "worse is WORSE than old" in text


def test_the_gate_says_who_does_not_beat_recent_popularity(
    tmp_path: Path, ndcg: np.ndarray
) -> None:
    path = write_report(tmp_path / "a", ndcg, popular=0.9)
    found = compare([("model", path)])
    assert "model is WORSE than recent_popularity on NDCG@10" in " ".join(told(found).split())
    alone = compare([("model", path)], baselines=False)
    assert [entry.name for entry in alone.entries] == ["model"]
    assert not alone.comparisons


def test_several_seeds_are_one_system_and_their_spread_counts(
    tmp_path: Path, ndcg: np.ndarray
) -> None:
    rng = np.random.default_rng(3)
    runs = [("old", write_report(tmp_path / f"old-{i}", ndcg + 0.002 * i)) for i in range(2)]
    shifts = [0.0, 0.03, 0.06]  # as large a spread as their mean gain
    runs += [
        ("new", write_report(tmp_path / f"new-{i}", ndcg + shift + rng.normal(0, 0.01, 200)))
        for i, shift in enumerate(shifts)
    ]
    found = compare(runs, baselines=False)
    new = next(entry for entry in found.entries if entry.name == "new")
    assert new.seeds == 3
    assert new.spread["ndcg@10"] == pytest.approx(0.03, rel=0.05)
    [several] = [c for c in found.comparisons if c.metric == "ndcg@10"]
    [single] = [
        c for c in compare([runs[0], runs[3]], baselines=False).comparisons if c.metric == "ndcg@10"
    ]
    assert several.p > 0.05 > single.p
    assert "does NOT beat" in verdict(several)
    assert "new (3 seeds)" in comparison_markdown(found)


def test_different_protocols_are_refused_by_name(tmp_path: Path, ndcg: np.ndarray) -> None:
    first = write_report(tmp_path / "a", ndcg)
    second = write_report(tmp_path / "bb", ndcg, split="validation")
    with pytest.raises(InputError, match='split: "test" against "validation"'):
        compare([("a", first), ("b", second)])
    allowed = compare([("a", first), ("b", second)], allow_differences=True)
    assert allowed.differing == ['split: "test" against "validation"']
    assert "CAUTION, the protocols differ in split" in told(allowed)


def test_other_users_are_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    first = write_report(tmp_path / "a", ndcg)
    with pytest.raises(InputError, match="not the same"):
        compare([("a", first), ("b", write_report(tmp_path / "bb", ndcg, first_user=1))])


def test_an_unknown_metric_is_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    path = write_report(tmp_path / "a", ndcg)
    with pytest.raises(
        InputError,
        match=r"no metric 'ndcg@3' with a value a user: choose from \['ndcg@10', 'auc'\]",
    ):
        compare([("a", path)], metric="ndcg@3")


def test_a_damaged_report_is_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    path = write_report(tmp_path / "a", ndcg)
    with (path / PER_USER_FILE).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match="is damaged"):
        compare([("a", path)])
