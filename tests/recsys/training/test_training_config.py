from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recsys.training.config import GBCEConfig, TrainConfig

READ = TypeAdapter(TrainConfig).validate_python


def test_the_objective_is_picked_by_name() -> None:
    config = READ({"objective": {"name": "gbce", "calibration": 0.5}, "max_epochs": 3})
    assert config.objective == GBCEConfig(calibration=0.5)
    assert READ({}) == TrainConfig()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"max_step": 5}, "max_step"),
        ({"objective": {"name": "gbce", "sampling": "uniform"}}, "sampling"),
        ({"objective": {"name": "hinge"}}, "hinge"),
        ({"objective": {"name": "gbce", "calibration": 2.0}}, r"calibration=2.0 is not in 0\.\.1"),
        ({"precision": "fp16"}, "precision"),
        ({"patience": 0}, "patience=0 must be at least 1"),
        ({"decay_to": 0.0}, r"decay_to=0.0 is not in 0\.\.1"),
        ({"max_epochs": 2, "epochs_per_validation": 3}, "no validation would ever run"),
    ],
)
def test_a_wrong_key_or_value_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        READ(table)
