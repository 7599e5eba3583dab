from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from features.errors import InputError
from features.stage import write_stage
from offline_eval.compare import compare, print_comparison
from offline_eval.records import PER_USER_FILE, BlockWriter, user_rows
from offline_eval.report import METRICS_FILE, Report, System
from offline_eval.significance import estimate_means


def write_report(out: Path, ndcg: np.ndarray, *, split: str = "test", first_user: int = 0) -> Path:
    """A report over one bundle; users are stored in another order than their ids."""
    order = np.random.default_rng(len(out.name)).permutation(len(ndcg))
    values = {"ndcg@10": ndcg[order], "auc": np.full(len(ndcg), np.nan)}
    estimates = dict(zip(values, estimate_means(np.stack(list(values.values()), 1)), strict=True))
    report = Report(
        title=out.name,
        protocol={"split": split},
        counts={},
        systems=[System(name="bundle", kind="bundle", estimates=estimates)],
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
            users.write(user_rows("bundle", pa.array(order + first_user), {}, values))
    return out


@pytest.fixture
def ndcg() -> np.ndarray:
    return np.random.default_rng(0).random(200)


def test_a_better_run_is_told_so(tmp_path: Path, ndcg: np.ndarray) -> None:
    better = ndcg + 0.02 + np.random.default_rng(1).normal(0, 0.01, 200)
    found = compare(write_report(tmp_path / "a", ndcg), write_report(tmp_path / "bb", better))
    one = found.metrics[0]
    assert one.difference.value == pytest.approx((better - ndcg).mean(), rel=1e-5)
    assert one.second - one.first == pytest.approx(one.difference.value, rel=1e-5)
    assert one.p_holm < 0.01
    assert "is better than" in found.verdict("ndcg@10")
    assert found.users == 200
    text = StringIO()
    print_comparison(found, Console(file=text, width=80))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "NDCG@10" in text.getvalue()


def test_a_worse_and_an_equal_run(tmp_path: Path, ndcg: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 200)
    first = write_report(tmp_path / "a", ndcg)
    equal = compare(first, write_report(tmp_path / "bb", ndcg + noise - noise.mean()))
    assert "cannot be told from" in equal.verdict("ndcg@10")
    assert "would usually show" in equal.verdict("ndcg@10")
    worse = compare(first, write_report(tmp_path / "ccc", ndcg - 0.1))
    assert "is WORSE than" in worse.verdict("ndcg@10")


def test_different_protocols_are_refused_by_name(tmp_path: Path, ndcg: np.ndarray) -> None:
    first = write_report(tmp_path / "a", ndcg)
    second = write_report(tmp_path / "bb", ndcg, split="validation")
    with pytest.raises(InputError, match='split: "test" against "validation"'):
        compare(first, second)
    allowed = compare(first, second, allow_differences=True)
    assert allowed.differing == ['split: "test" against "validation"']


def test_other_users_are_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    first = write_report(tmp_path / "a", ndcg)
    with pytest.raises(InputError, match="not the same"):
        compare(first, write_report(tmp_path / "bb", ndcg, first_user=1))


def test_an_unknown_system_is_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    path = write_report(tmp_path / "a", ndcg)
    with pytest.raises(InputError, match=r"no system 'ease': choose from \['bundle'\]"):
        compare(path, path, system="ease")


def test_a_damaged_report_is_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    path = write_report(tmp_path / "a", ndcg)
    with (path / PER_USER_FILE).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match="is damaged"):
        compare(path, path)
