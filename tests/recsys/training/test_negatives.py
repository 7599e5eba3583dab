import math

import numpy as np
import pytest
import torch

from features.errors import InputError
from recsys.models.losses import GBCE, FullSoftmax, SampledSoftmax
from recsys.training.config import (
    AutoConfig,
    FullSoftmaxConfig,
    GBCEConfig,
    SampledSoftmaxConfig,
    Sampling,
    TrainConfig,
)
from recsys.training.negatives import (
    by_popularity,
    objective_of_step,
    refuse_large_catalogue,
    uniform,
)

CPU = torch.device("cpu")
COUNTS = np.array([0, 1, 3, 5, 91])


def test_uniform_samples_differ_within_a_step_and_between_steps() -> None:
    samples = [uniform(50, 20, 0, step) for step in range(4)]
    assert all(
        len(set(sample)) == 20 and 1 <= sample.min() <= sample.max() <= 50 for sample in samples
    )
    assert samples[0].tolist() != samples[1].tolist()
    assert uniform(50, 20, 0, 3).tolist() == samples[3].tolist()
    assert sorted(uniform(50, 50, 0, 0)) == list(range(1, 51))


def test_popular_items_are_drawn_as_often_as_their_share() -> None:
    share_N = (COUNTS + 1) / (COUNTS + 1).sum()
    drawn = by_popularity(np.cumsum(share_N), 100_000, 0, 0)
    found = np.bincount(drawn, minlength=6)[1:] / 100_000
    np.testing.assert_allclose(found, share_N, atol=4 * 0.5 / math.sqrt(100_000))


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_the_correction_is_the_expected_count(sampling: Sampling) -> None:
    config = TrainConfig(objective=SampledSoftmaxConfig(negatives=4, sampling=sampling))
    of_step = objective_of_step(config, COUNTS, CPU)
    counts = np.zeros(6)
    corrections = {}
    for step in range(4_000):
        objective = of_step(step)
        assert isinstance(objective, SampledSoftmax)
        np.add.at(counts, objective.sampled.numpy(), 1)
        corrections |= dict(
            zip(objective.sampled.tolist(), objective.log_count.tolist(), strict=True)
        )
    expected = [math.exp(corrections[item]) for item in range(1, 6)]
    np.testing.assert_allclose(counts[1:] / 4_000, expected, rtol=0.15)


def test_each_name_gives_its_objective() -> None:
    made = [
        objective_of_step(TrainConfig(objective=objective), COUNTS, CPU)(0)
        for objective in (
            FullSoftmaxConfig(),
            SampledSoftmaxConfig(negatives=2),
            GBCEConfig(negatives=2, calibration=0.5),
        )
    ]
    assert [type(objective) for objective in made] == [FullSoftmax, SampledSoftmax, GBCE]
    assert isinstance(made[2], GBCE)
    assert made[2].calibration == 0.5


def test_more_negatives_than_items_are_refused() -> None:
    config = TrainConfig(objective=SampledSoftmaxConfig(negatives=6))
    with pytest.raises(InputError, match=r"negatives = 6 is not in 1\.\.5, the number of items"):
        objective_of_step(config, COUNTS, CPU)


def test_without_a_word_a_large_catalogue_is_sampled_and_a_small_one_is_not() -> None:
    def chosen(config: TrainConfig, num_items: int) -> object:
        return objective_of_step(config, np.ones(num_items, np.int64), CPU)(0)

    assert isinstance(chosen(TrainConfig(), 100_000), FullSoftmax)
    sampled = chosen(TrainConfig(), 100_001)
    assert isinstance(sampled, SampledSoftmax)
    assert len(sampled.sampled) == 4_096
    small = TrainConfig(objective=AutoConfig(full_up_to=4, negatives=50))
    few = chosen(small, 5)
    assert isinstance(few, SampledSoftmax)
    assert len(few.sampled) == 5  # no more than there are
    assert isinstance(chosen(small, 4), FullSoftmax)


@pytest.mark.parametrize("objective", [FullSoftmaxConfig(), AutoConfig(full_up_to=300_000)])
def test_a_catalogue_too_large_to_encode_at_every_step_is_refused(
    objective: FullSoftmaxConfig | AutoConfig,
) -> None:
    refuse_large_catalogue(objective, 200_000, 64)
    with pytest.raises(InputError, match=r"all 200,001 items .* \(0\.1 GB .*auto"):
        refuse_large_catalogue(objective, 200_001, 64)
    refuse_large_catalogue(AutoConfig(), 200_001, 64)
    refuse_large_catalogue(SampledSoftmaxConfig(), 200_001, 64)
