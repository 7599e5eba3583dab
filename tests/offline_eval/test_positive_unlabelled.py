import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

from offline_eval.positive_unlabelled import aul, corrected


@pytest.mark.parametrize(
    ("prevalence", "mcc"), [(0.02, 0.285), (0.05, 0.352), (0.07, 0.385), (0.1, 0.424), (0.5, 0.565)]
)
def test_published_values(prevalence: float, mcc: float) -> None:
    found = corrected(0.75, 0.20, prevalence=prevalence, alpha=0.025)
    assert found.balanced_accuracy == pytest.approx(0.7821, abs=5e-5)
    assert found.mcc == pytest.approx(mcc, abs=5e-4)


def test_nothing_hidden_is_the_plain_metric() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.2
    said = rng.random(5000) < np.where(truth, 0.7, 0.1)
    found = corrected(said[truth].mean(), said[~truth].mean(), prevalence=truth.mean(), alpha=0)
    assert found.mcc == pytest.approx(matthews_corrcoef(truth, said))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, said))
    assert found.f1 == pytest.approx(f1_score(truth, said))


def test_hidden_positives_are_corrected_for() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(400_000) < 0.06
    said = rng.random(400_000) < np.where(truth, 0.7, 0.1)
    labelled = truth & (rng.random(400_000) < 0.6)
    alpha = truth[~labelled].mean()
    rates = said[labelled].mean(), said[~labelled].mean()
    found = corrected(*rates, prevalence=labelled.mean(), alpha=alpha)
    wanted = matthews_corrcoef(truth, said)
    assert found.mcc == pytest.approx(wanted, abs=0.005)
    assert abs(matthews_corrcoef(labelled, said) - wanted) > 0.05


@given(st.integers(0, 2**32 - 1))
def test_aul_equals_a_loop_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = rng.random(25) < 0.4, rng.integers(0, 6, 25).astype(float)
    labels[0] = True
    wins = [float(p > any_) + float(p == any_) / 2 for p in scores[labels] for any_ in scores]
    assert aul(labels, scores) == pytest.approx(np.mean(wins))


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="must be below beta"):
        corrected(0.7, 0.2, prevalence=0.1, alpha=0.9, beta=0.8)
