from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from offline_eval.hypotheses import holm, minimal_detectable_effect, permutation_p


def test_the_exact_test_over_all_sign_patterns() -> None:
    difference = np.array([0.9, -0.1, 0.5, 0.3, 0.0, 0.4, -0.2, 0.6, 0.25])
    means = [np.mean(difference * signs) for signs in product((-1, 1), repeat=9)]
    exact = np.mean(np.abs(means) >= abs(difference.mean()) - 1e-12)
    assert permutation_p(difference, permutations=100_000) == pytest.approx(exact, rel=0.05)


def test_close_to_scipy() -> None:
    difference = np.random.default_rng(0).normal(0.1, 1, 300)
    expected = permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=5_000, rng=1
    )
    assert permutation_p(difference, permutations=20_000) == pytest.approx(
        expected.pvalue, rel=0.25
    )


def test_equal_systems_are_rejected_in_3_to_7_of_100_experiments() -> None:
    rng = np.random.default_rng(2)
    ps = [permutation_p(rng.normal(0, 1, 60), permutations=400, seed=s) for s in range(1000)]
    assert 30 <= np.sum(np.array(ps) <= 0.05) <= 70


def test_more_users_than_a_block() -> None:
    rng = np.random.default_rng(3)
    assert permutation_p(rng.normal(0, 1, 20_000), permutations=200) > 0.02
    assert permutation_p(rng.normal(0.05, 1, 20_000), permutations=200) == pytest.approx(1 / 201)


def test_no_difference_is_no_evidence() -> None:
    assert permutation_p(np.zeros(50), permutations=99) == 1
    assert np.isnan(permutation_p(np.full(3, np.nan)))
    known = np.array([0.5, 0.2, -0.1, 0.4])
    with_unknown = np.append(known, np.nan)
    assert permutation_p(with_unknown) == permutation_p(known)


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    rejected: set[int] = set()
    order = np.argsort(p_values, kind="stable")
    for step, index in enumerate(order):
        if p_values[index] * (len(order) - step) > 0.05:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(holm(np.array(p_values)) <= 0.05).tolist()) == rejected


def test_the_detectable_effect_is_found_4_times_out_of_5() -> None:
    rng = np.random.default_rng(4)
    effect = minimal_detectable_effect(rng.normal(0, 2, 400))
    found = [
        permutation_p(rng.normal(effect, 2, 400), permutations=200, seed=s) <= 0.05
        for s in range(400)
    ]
    assert 0.7 <= np.mean(found) <= 0.9
    assert np.isnan(minimal_detectable_effect(np.array([1.0])))
