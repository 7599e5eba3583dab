"""The gate on reports whose differences are planted."""

from pathlib import Path

import numpy as np
import pytest

from features.errors import InputError
from offline_eval.gate import reasons_against
from tests.offline_eval.test_compare import write_report

USERS = 400


@pytest.fixture
def ndcg() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.3, 0.7, USERS)


def test_a_candidate_that_beats_popularity_passes(tmp_path: Path, ndcg: np.ndarray) -> None:
    against, in_favour = reasons_against(write_report(tmp_path / "new", ndcg))
    assert against == []
    assert "candidate beats recent_popularity" in in_favour[0]


def test_a_candidate_below_popularity_is_refused(tmp_path: Path, ndcg: np.ndarray) -> None:
    report = write_report(tmp_path / "new", ndcg, popular=0.6)
    against, _ = reasons_against(report)
    assert "candidate is WORSE than recent_popularity" in against[0]
    assert reasons_against(report, popularity=False) == ([], [])


@pytest.mark.parametrize(
    ("loss", "margin", "passes"),
    [
        (0.0, None, True),
        (0.05, None, False),
        (0.05, 0.2, True),
        (0.05, 0.01, False),
        (-0.05, 0.0, True),
    ],
)
def test_a_loss_against_what_serves(
    tmp_path: Path, ndcg: np.ndarray, loss: float, margin: float | None, passes: bool
) -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, USERS)
    current = write_report(tmp_path / "current", ndcg)
    new = write_report(tmp_path / "new", ndcg - loss + noise)
    against, in_favour = reasons_against(new, current, margin=margin)
    assert (against == []) is passes
    assert any("current" in sentence for sentence in (in_favour if passes else against))


def test_reports_over_other_tests_are_not_compared(tmp_path: Path, ndcg: np.ndarray) -> None:
    current = write_report(tmp_path / "current", ndcg, split="validation")
    with pytest.raises(InputError, match="differ"):
        reasons_against(write_report(tmp_path / "new", ndcg), current)
