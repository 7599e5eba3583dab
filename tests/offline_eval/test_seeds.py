import numpy as np
import pytest

from offline_eval.seeds import compare_seeds, estimate_seeds
from offline_eval.significance import estimate_means


def runs(rng: np.random.Generator, ease: np.ndarray, mean: float, seeds: int) -> np.ndarray:
    """Each seed shifts all users alike (training noise), and each user on its own."""
    shift = rng.normal(0, 0.02, (seeds, 1))
    return mean + ease + shift + rng.normal(0, 0.05, (seeds, len(ease)))


def test_one_seed_is_the_bootstrap_over_users() -> None:
    values = np.random.default_rng(0).random((1, 300))
    assert estimate_seeds(values) == estimate_means(values.T)[0]


def test_intervals_hold_the_truth_and_equal_systems_stay_equal() -> None:
    rng = np.random.default_rng(1)
    held = rejected = 0
    for seed in range(400):
        ease = rng.normal(0, 0.1, 200)
        first, second = (runs(rng, ease, 0.3, 4) for _ in range(2))
        found = estimate_seeds(first, resamples=200, seed=seed)
        held += found.low <= 0.3 <= found.high
        rejected += compare_seeds(first, second, resamples=200, seed=seed).p <= 0.05
    assert 368 <= held <= 392, held
    assert 8 <= rejected <= 30, rejected


def test_ignoring_the_seeds_would_find_what_is_not_there() -> None:
    rng = np.random.default_rng(2)
    ease = rng.normal(0, 0.1, 2000)
    alone = together = 0
    for seed in range(60):
        first, second = (runs(rng, ease, 0.3, 3) for _ in range(2))
        alone += compare_seeds(first[:1], second[:1], resamples=100, seed=seed).p <= 0.05
        together += compare_seeds(first, second, resamples=100, seed=seed).p <= 0.05
    assert together <= 9
    assert alone >= 30


def test_a_real_gain_is_found_and_its_detectable_size_told() -> None:
    rng = np.random.default_rng(3)
    ease = rng.normal(0, 0.1, 500)
    found = compare_seeds(runs(rng, ease, 0.5, 5), runs(rng, ease, 0.3, 5))
    assert found.p < 1e-4
    assert found.difference.verdict == "better"
    assert 0.02 < found.detectable < 0.08


def test_undefined_users_are_left_out() -> None:
    values = np.random.default_rng(4).random((2, 50))
    values[:, :7] = np.nan
    found = estimate_seeds(values, resamples=50)
    assert (found.defined, found.undefined) == (43, 7)
    assert found.value == pytest.approx(np.nanmean(values))
