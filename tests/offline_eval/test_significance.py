import numpy as np
import pytest

from offline_eval.significance import (
    WEIGHTS,
    Difference,
    draw_weights,
    estimate_means,
    paired_difference,
    per_owner,
    resampled_means,
)


def test_the_weights_have_mean_and_variance_one() -> None:
    assert len(WEIGHTS) == 256
    assert WEIGHTS.mean() == 1
    assert WEIGHTS.var() == 1


def test_weights_are_the_table_of_the_bytes() -> None:
    count = 1_000_003
    raw = np.random.SFC64(4).random_raw(count // 8 + 1).view(np.uint8)[:count]
    np.testing.assert_array_equal(draw_weights(np.random.SFC64(4), count), WEIGHTS[raw])


def test_the_spread_of_resampled_means_is_the_standard_error() -> None:
    values = np.random.default_rng(0).random((20_000, 2))  # more users than a block
    means = resampled_means(values, 2000, seed=1)
    expected = values.std(axis=0) / np.sqrt(len(values))
    np.testing.assert_allclose(means.std(axis=0), expected, rtol=0.06)
    np.testing.assert_allclose(
        means.mean(axis=0), values.mean(axis=0), atol=4 * expected.max() / 44
    )


def test_cases_of_one_user_are_drawn_together() -> None:
    rng = np.random.default_rng(5)
    owners = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    values = (rng.normal(size=300)[owners] + 0.1 * rng.normal(size=len(owners)))[:, None]
    drawn = []
    rows_of = [np.flatnonzero(owners == owner) for owner in range(300)]
    for _ in range(2000):
        rows = np.concatenate([rows_of[owner] for owner in rng.integers(0, 300, 300)])
        drawn.append(values[rows].mean())
    means = resampled_means(values, 4000, 0, owners)
    assert means.std() == pytest.approx(np.std(drawn), rel=0.1)
    assert means.std() > 1.5 * resampled_means(values, 4000, 0).std()
    [estimate] = estimate_means(values, owners_U=owners)
    assert estimate.value == pytest.approx(values.mean())
    assert per_owner(values[:, 0], owners).mean() == pytest.approx(values.mean())


def test_values_of_users_keep_the_mean_over_their_defined_cases() -> None:
    values = np.array([1.0, np.nan, 0.5, np.nan, 0.0, 0.25])
    owners = np.array([3, 3, 3, 8, 9, 9])
    found = per_owner(values, owners)
    assert np.isnan(found[1])
    assert np.nanmean(found) == pytest.approx(np.nanmean(values))
    np.testing.assert_array_equal(per_owner(values, np.arange(6)), values)


def test_close_to_drawing_users_with_replacement() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(size=(400, 1))
    drawn = np.array([values[rng.integers(0, 400, 400)].mean() for _ in range(4000)])
    [estimate] = estimate_means(values, resamples=4000, seed=4)
    expected = np.quantile(drawn, [0.025, 0.975])
    width = expected[1] - expected[0]
    np.testing.assert_allclose([estimate.low, estimate.high], expected, atol=0.06 * width)


def test_an_interval_holds_the_truth_in_95_of_100_experiments() -> None:
    rng = np.random.default_rng(5)
    truth, held = 0.3, 0
    for experiment in range(1000):
        hits = (rng.random((300, 1)) < truth).astype(float)
        [estimate] = estimate_means(hits, resamples=400, seed=experiment)
        held += estimate.low <= truth <= estimate.high
    assert 930 <= held <= 970


def test_equal_systems_are_told_apart_in_3_to_7_of_100_experiments() -> None:
    rng = np.random.default_rng(6)
    rejected = 0
    for experiment in range(1000):
        ease = rng.random(200)  # some users are easy for both systems
        first, second = (np.where(rng.random(200) < ease, 1.0, 0.0) for _ in range(2))
        found = paired_difference(first, second, resamples=400, seed=experiment)
        rejected += found.verdict != "not distinguishable"
    assert 30 <= rejected <= 70


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(7)
    ease = rng.random(500)
    first, second = ease + 0.02, ease + rng.normal(0, 0.01, 500)
    paired = paired_difference(first, second)
    assert paired.verdict == "better"
    alone = estimate_means(first[:, None])[0]
    assert paired.high - paired.low < (alone.high - alone.low) / 10


def test_undefined_users_are_left_out_and_counted() -> None:
    values = np.array([[1.0, 5.0], [np.nan, 5.0], [3.0, 5.0], [np.nan, np.nan]])
    first, second = estimate_means(values)
    assert (first.value, first.defined, first.undefined) == (2.0, 2, 2)
    assert (second.value, second.low, second.high) == (5.0, 5.0, 5.0)
    alone = estimate_means(np.array([[1.0], [3.0]]))[0]
    assert alone.value == first.value
    [nothing] = estimate_means(np.full((3, 1), np.nan))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_the_same_seed_gives_the_same_interval_whatever_stands_beside_it() -> None:
    values = np.random.default_rng(8).random((1000, 3))
    together = estimate_means(values, seed=2)
    assert together == estimate_means(values, seed=2)
    [alone] = estimate_means(values[:, 1:2], seed=2)
    assert alone.low == pytest.approx(together[1].low, rel=1e-6)
    assert together != estimate_means(values, seed=3)


def test_verdicts() -> None:
    assert Difference(0.1, 0.01, 0.2, 9).verdict == "better"
    assert Difference(-0.1, -0.2, -0.01, 9).verdict == "worse"
    assert Difference(0.1, -0.01, 0.2, 9).verdict == "not distinguishable"


def test_systems_over_different_users_are_refused() -> None:
    with pytest.raises(ValueError, match="different users"):
        paired_difference(np.zeros(3), np.zeros(4))
