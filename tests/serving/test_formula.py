import numpy as np
import pytest

from serving.formula import Formula
from serving.policy_spec import PolicySpec

P = {"click": np.array([0.5, 0.01, 1e-30]), "buy": np.array([0.25, 0.9, 1e-30])}


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("click", lambda click, buy: click),
        ("click^0.5 * buy^2", lambda click, buy: click**0.5 * buy**2),
        ("click * (1 + 3 * buy)", lambda click, buy: click * (1 + 3 * buy)),
        ("click / buy ^ -1.5", lambda click, buy: click / buy**-1.5),
        ("2 * click^2 + buy / 4", lambda click, buy: 2 * click**2 + buy / 4),
        ("(click + buy)^0.5", lambda click, buy: (click + buy) ** 0.5),
    ],
)
def test_a_formula_is_what_it_says(text: str, by_hand) -> None:  # noqa: ANN001 (a lambda)
    formula = Formula.parse(text)
    found = formula.log_value({name: np.log(p) for name, p in P.items()})
    expected = np.log(by_hand(P["click"], P["buy"]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert set(formula.names) == {n for n in ("click", "buy") if n in text}


def test_products_too_small_for_a_float_keep_their_order() -> None:
    log_p = {"click": np.array([-500.0, -501.0]), "buy": np.array([-900.0, -900.0])}
    found = Formula.parse("click * buy^2").log_value(log_p)
    assert found.tolist() == [-2300.0, -2301.0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("click - buy", "only tasks"),
        ("click * -1", "must be positive"),
        ("click ^ buy", "exponent must be a number"),
        ("0 * click", "must be positive"),
        ("3", "names no task"),
        ("click *", "is no formula"),
        ("__import__('os')", "only tasks"),
        ("click.real", "only tasks"),
        ("click if buy else 1", "only tasks"),
        ("'click'", "only tasks"),
        ("True * click", "only tasks"),
        ("click * 1e999", "must be positive"),
        ("(" * 400 + "click" + ")" * 400, "longer than"),
    ],
)
def test_anything_else_is_refused(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Formula.parse(text)


def test_a_policy_is_checked_when_it_is_written() -> None:
    assert PolicySpec(formula="click * buy").formula == "click * buy"
    with pytest.raises(ValueError, match="is no formula"):
        PolicySpec(formula="click *")
