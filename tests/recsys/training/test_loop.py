import math

import pytest

from recsys.training.config import TrainConfig
from recsys.training.loop import learning_rate


def test_the_rate_warms_up_then_follows_a_cosine() -> None:
    config = TrainConfig(learning_rate=0.1, warmup_steps=4, decay_to=0.2, max_epochs=10)
    rates = [learning_rate(config, step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1 / 4)
    assert rates[50] == pytest.approx(0.1 * (0.2 + 0.8 / 2))
    assert rates[99] == pytest.approx(0.1 * (0.2 + 0.8 * (1 + math.cos(math.pi * 0.99)) / 2))
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_the_rate_is_constant_unless_told() -> None:
    config = TrainConfig(learning_rate=0.1, max_epochs=10)
    assert {learning_rate(config, step, 10) for step in range(100)} == {0.1}


def test_the_decay_may_wait_for_the_last_epochs() -> None:
    config = TrainConfig(learning_rate=0.1, decay_to=0.2, max_epochs=10, decay_epochs=2)
    rates = [learning_rate(config, step, 10) for step in range(100)]
    assert set(rates[:81]) == {0.1}
    assert rates[90] == pytest.approx(0.1 * (0.2 + 0.8 / 2))
    assert rates[80:] == sorted(rates[80:], reverse=True)
