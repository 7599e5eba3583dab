import numpy as np
import pytest

from offline_eval.hypotheses import LARGE, paired_p, permutation_p
from offline_eval.pairs import compare_pairs, significance_letters

RNG = np.random.default_rng(0)
EASE = RNG.random(300)


def system(gain: float, noise: float = 0.02) -> np.ndarray:
    return EASE + gain + RNG.normal(0, noise, 300)


def test_letters_say_who_can_be_told_apart() -> None:
    values = {"low": system(0), "high": system(0.2), "also high": system(0.2), "mid": system(0.1)}
    found = significance_letters(values)
    assert found == {"high": "a", "also high": "a", "mid": "b", "low": "c"}


def test_a_system_between_two_others_shares_a_letter_with_each() -> None:
    best, worst = system(0.008, 0.03), system(0.0, 0.03)
    between = (best + worst) / 2 + RNG.normal(0, 0.06, 300)
    found = significance_letters({"best": best, "between": between, "worst": worst})
    assert found == {"best": "a", "between": "ab", "worst": "b"}


def test_equal_systems_share_a_letter_and_an_undefined_one_has_none() -> None:
    same = system(0)
    values = {"one": same, "two": same.copy(), "undefined": np.full(300, np.nan)}
    assert significance_letters(values) == {"one": "a", "two": "a", "undefined": ""}
    assert significance_letters({}) == {}


def test_pairs_are_corrected_for_their_number() -> None:
    values = {"a": system(0.004, 0.03), "b": system(0, 0.03), "c": system(-0.2)}
    alone, _ = compare_pairs(values, [("a", "b"), ("a", "c")], "ndcg@10")
    [single] = compare_pairs(values, [("a", "b")], "ndcg@10")
    assert alone.p == single.p
    assert single.p_holm == single.p
    assert alone.p_holm >= alone.p
    assert alone.detectable == pytest.approx(
        2.8 * (values["a"] - values["b"]).std(ddof=1) / 17.3, rel=0.01
    )
    assert "with Holm" in alone.sentence


def test_no_difference_says_what_would_have_shown() -> None:
    values = {"a": system(0, 0.3), "b": system(0, 0.3)}
    [found] = compare_pairs(values, [("a", "b")], "ndcg@10")
    assert "does NOT beat" in found.sentence
    assert "would usually show" in found.sentence


def test_the_normal_limit_agrees_with_permutations() -> None:
    difference = RNG.exponential(size=LARGE + 1) - 1 + 0.015
    assert paired_p(difference) == pytest.approx(permutation_p(difference), abs=0.015)
    assert paired_p(difference[:500]) == permutation_p(difference[:500])
