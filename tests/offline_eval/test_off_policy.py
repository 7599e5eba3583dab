"""Estimates of a policy's value against the value that a simulation knows."""

from typing import Any

import numpy as np
import pytest

from features.errors import InputError
from offline_eval.off_policy import Logged, evaluate_policy, shrunken_rewards

CONTEXTS, ACTIONS, RANKS = 4, 6, 2
WORLD = np.random.default_rng(0)
CLICK = WORLD.uniform(0.05, 0.6, (CONTEXTS, ACTIONS))
"""Chance of a click on an item in a context, at the first rank."""
DECAY = np.array([1.0, 0.5])
"""By rank."""


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


OLD = softmax(WORLD.normal(size=(RANKS, CONTEXTS, ACTIONS)))
NEW = softmax(np.stack([3 * CLICK, 2 * CLICK]) + WORLD.normal(size=(RANKS, CONTEXTS, ACTIONS)) / 3)
TRUTH = float((NEW * CLICK * DECAY[:, None, None]).sum() / CONTEXTS)


def simulate(seed: int, requests: int = 1500, *, model: Any = "good", new: Any = NEW) -> Logged:
    """Each rank is drawn on its own from OLD; three requests a user, who is of one context."""
    rng = np.random.default_rng(seed)
    user = np.arange(requests) // 3
    context = rng.integers(0, CONTEXTS, requests)
    rank = np.tile(np.arange(RANKS), requests)
    request = np.repeat(np.arange(requests), RANKS)
    chances = OLD[rank, context[request]]
    action = (chances.cumsum(axis=1) < rng.random(len(request))[:, None]).sum(axis=1)
    action = np.minimum(action, ACTIONS - 1)
    mean = CLICK[context[request], action] * DECAY[rank]
    guess = {"good": CLICK, "bad": 1 - CLICK, "none": np.zeros_like(CLICK)}[model]
    planned = (new * (guess * DECAY[:, None, None])).sum(axis=(0, 2))
    return Logged(
        request=request,
        user=user,
        reward=(rng.random(len(request)) < mean).astype(float),
        propensity=chances[np.arange(len(request)), action],
        target=new[rank, context[request], action],
        predicted=guess[context[request], action] * DECAY[rank],
        planned=planned[context],
        filled=np.full(requests, float(RANKS)),
        absent=0.0,
    )


@pytest.mark.parametrize("model", ["good", "bad", "none"])
def test_estimators_are_unbiased(model: str) -> None:
    found = [evaluate_policy(simulate(seed, model=model), resamples=2) for seed in range(200)]
    for name in ("ips", "snips", "dr"):
        values = np.array([getattr(one, name).value for one in found])
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - TRUTH) < 3.5 * error, name
    values = {n: np.std([getattr(one, n).value for one in found]) for n in ("ips", "snips", "dr")}
    assert values["snips"] < values["ips"]
    if model == "good":
        assert values["dr"] < values["snips"]
    if model == "none":
        same = np.array([(one.dr.value, one.ips.value) for one in found])
        np.testing.assert_allclose(same[:, 0], same[:, 1])


def test_intervals_hold_the_true_value_in_95_of_100_logs() -> None:
    held = dict.fromkeys(("ips", "snips", "dr"), 0)
    for seed in range(500):
        found = evaluate_policy(simulate(seed, 600), resamples=300, seed=seed)
        for name in held:
            held[name] += getattr(found, name).low <= TRUTH <= getattr(found, name).high
    assert all(465 <= count <= 485 + 5 for count in held.values()), held


def test_the_logs_own_policy_is_worth_what_it_earned() -> None:
    log = simulate(3, new=OLD)
    found = evaluate_policy(log)
    assert found.ips.value == pytest.approx(found.logged.value)
    assert found.snips.value == pytest.approx(found.logged.value)
    assert found.gain.verdict == "not distinguishable"
    assert found.overlap.effective == pytest.approx(len(log.request))
    assert found.overlap.mean_weight.value == pytest.approx(1)
    assert not found.overlap.warnings


def test_little_overlap_is_said_in_words() -> None:
    strange = np.zeros_like(NEW)
    strange[..., 0] = 1
    fine = simulate(4, new=strange)
    rare = Logged(
        request=fine.request, user=fine.user, reward=fine.reward,
        propensity=np.where(np.arange(len(fine.request)) < 2, 1e-4, 0.9),
        target=np.where(np.arange(len(fine.request)) < 2, 1.0, 0.001),
        predicted=fine.predicted, planned=fine.planned, filled=fine.filled, absent=0.3,
    )  # fmt: skip
    told = evaluate_policy(rare).overlap.warnings
    assert len(told) == 2
    assert "equals only 2 exposures" in told[0]
    assert "30.0% of what the policy would show was shown to nobody" in told[1]


def test_clipping_shows_in_the_mean_weight() -> None:
    log = simulate(5)
    whole, clipped = evaluate_policy(log), evaluate_policy(log, clip=1.0)
    assert clipped.overlap.largest == 1.0
    assert clipped.overlap.mean_weight.high < 1
    [told] = clipped.overlap.warnings
    assert "instead of 1" in told
    assert clipped.ips.value < whole.ips.value
    assert clipped.overlap.effective > whole.overlap.effective


def test_the_reward_model_learns_items_and_ranks_from_other_folds_only() -> None:
    rng = np.random.default_rng(6)
    item, rank = rng.integers(0, 3, 60_000), rng.integers(1, 3, 60_000)
    fold = np.arange(60_000) % 2
    mean = np.array([0.1, 0.2, 0.3])[item] * np.array([0, 1.0, 0.5])[rank]
    reward = (rng.random(60_000) < mean).astype(float)
    reward[fold == 0] = 9.0  # seen in fitting, it would ruin the model of fold 0
    model = shrunken_rewards(item, rank, reward, fold)[0]
    found = model.predict(np.array([0, 1, 2, 2, -1]), np.array([1, 1, 1, 2, 1]))
    np.testing.assert_allclose(found, [0.1, 0.2, 0.3, 0.15, 0.2], atol=0.012)
    assert model.predict(np.array([1]), np.array([7]))[0] == pytest.approx(model.base, rel=0.05)


def test_an_empty_log_is_refused() -> None:
    none, empty = np.zeros(0, int), np.zeros(0)
    with pytest.raises(InputError, match="exposure log is empty"):
        Logged(
            request=none, user=none, reward=empty, propensity=empty, target=empty,
            predicted=empty, planned=empty, filled=empty, absent=0.0,
        )  # fmt: skip
