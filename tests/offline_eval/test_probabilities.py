import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from features.errors import InputError
from offline_eval.probabilities import (
    auc_by_group,
    gauc,
    log_loss,
    normalised_entropy,
    pr_auc,
    reliability,
)

seeds = st.integers(0, 2**32 - 1)


def examples(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties, and groups, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.random(80) < 0.3
    labels[:2] = [True, False]
    return labels, rng.integers(0, 11, 80) / 10, rng.integers(0, 12, 80) * 7


@given(seeds)
def test_equal_to_scikit_learn(seed: int) -> None:
    labels, scores, groups = examples(seed)
    assert log_loss(labels, scores).mean() == pytest.approx(sklearn_log_loss(labels, scores))
    assert pr_auc(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    [whole], _ = auc_by_group(labels, scores, np.zeros(80, int))
    assert whole == pytest.approx(roc_auc_score(labels, scores))
    found, sizes = auc_by_group(labels, scores, groups)
    for group, auc, size in zip(np.unique(groups), found, sizes, strict=True):
        own = groups == group
        assert size == own.sum()
        if len(np.unique(labels[own])) == 2:
            assert auc == pytest.approx(roc_auc_score(labels[own], scores[own]))
        else:
            assert np.isnan(auc)


def test_weightings_of_gauc() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1, 1], bool)
    scores = np.array([0.9, 0.1, 0.1, 0.5, 0.6, 0.3, 0.2])
    groups = np.array([4, 4, 2, 2, 2, 9, 9])  # AUC 1 of 2 examples, 0 of 3, none of 2
    assert gauc(labels, scores, groups, weighting="equal") == 1 / 2
    assert gauc(labels, scores, groups) == 2 / 5
    assert np.isnan(gauc(labels, scores, np.arange(7)))


def test_constant_scores_are_chance() -> None:
    labels, _, groups = examples(0)
    constant = np.full(80, 0.4)
    assert gauc(labels, constant, groups) == 0.5
    assert pr_auc(labels, constant) == pytest.approx(labels.mean())
    base_rate = np.full(80, labels.mean())
    assert normalised_entropy(labels, base_rate) == pytest.approx(1)
    assert reliability(labels, base_rate).error == pytest.approx(0, abs=1e-12)


@given(seeds)
def test_calibration_error_equals_a_loop_over_bins(seed: int) -> None:
    labels, scores, _ = examples(seed)
    found = reliability(labels, scores, bins=4)
    total = 0.0
    for low in (0, 0.25, 0.5, 0.75):
        own = (scores >= low) & ((scores < low + 0.25) | (low == 0.75))
        if own.any():
            total += own.mean() * abs(labels[own].mean() - scores[own].mean())
    assert found.error == pytest.approx(total)
    assert found.counts.sum() == 80


def test_calibrated_predictions_have_little_error() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(50_000)
    labels = rng.random(50_000) < chances
    assert reliability(labels, chances).error < 0.01
    assert reliability(labels, chances**2).error > 0.1


def test_one_class_alone_is_nan() -> None:
    none, scores = np.zeros(3, bool), np.array([0.1, 0.2, 0.3])
    assert np.isnan(pr_auc(none, scores))
    assert np.isnan(normalised_entropy(none, scores))


def test_bad_input_is_refused() -> None:
    labels = np.array([True, False])
    with pytest.raises(InputError, match="1 of 2 scores are nan"):
        pr_auc(labels, np.array([0.5, np.nan]))
    with pytest.raises(InputError, match="before the sigmoid"):
        log_loss(labels, np.array([0.5, 3.0]))
    with pytest.raises(InputError, match="expected one each"):
        pr_auc(labels, np.zeros(3))
    with pytest.raises(InputError, match="no examples"):
        pr_auc(np.zeros(0, bool), np.zeros(0))
