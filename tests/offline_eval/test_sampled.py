import logging

import numpy as np
import pytest

from features.errors import InputError
from offline_eval.best import mask_scores
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth
from offline_eval.sampled import sampled_metrics

TRUTH = Truth.of(np.arange(400) // 2, np.arange(400) % 2 + 1, 200)
EVERYTHING = Candidates.everything(200, 50)


def test_names_and_a_warning_say_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    scores = np.zeros((200, 51), np.float32)
    with caplog.at_level(logging.WARNING):
        found = sampled_metrics(mask_scores(scores, EVERYTHING), TRUTH, EVERYTHING, (10,))
    assert "not those of full ranking" in caplog.text
    assert all(name.endswith("among_100_sampled") for name in found)


def test_constant_scores_are_chance() -> None:
    scores = np.zeros((200, 51), np.float32)
    found = sampled_metrics(mask_scores(scores, EVERYTHING), TRUTH, EVERYTHING, (10,), negatives=99)
    np.testing.assert_allclose(found["hit_rate@10_among_99_sampled"], 0.1)


def test_the_expected_rank_is_that_among_the_negatives() -> None:
    """Both targets beat half of the 48 others, so 10 of 20 negatives stand above on average."""
    scores = np.tile(np.arange(51, dtype=np.float32), (200, 1))
    scores[:, 1:3] = 26.5
    found = sampled_metrics(mask_scores(scores, EVERYTHING), TRUTH, EVERYTHING, (11,), negatives=21)
    assert found["hit_rate@11_among_21_sampled"].mean() == pytest.approx(0.5, abs=0.09)


def test_nobody_left_to_draw_is_refused() -> None:
    candidates = Candidates.everything(1, 2)
    truth = Truth.of(np.array([0, 0]), np.array([1, 2]), 1)
    with pytest.raises(InputError, match="no irrelevant candidate"):
        sampled_metrics(np.zeros((1, 3), np.float32), truth, candidates, (1,))
