"""Training of outcome models: resumed bit for bit, and pre-training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from features.errors import InputError
from recsys.export.config import ExportConfig
from recsys.export.outcomes import export_outcomes
from recsys.training.outcomes import OutcomeTask
from recsys.training.run import train


def test_an_interrupted_training_ends_with_the_same_weights(
    vertical: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(vertical.training, max_epochs=3)
    train("life_events", vertical.sizes, settings, vertical.lives, tmp_path / "whole")
    validate, calls = OutcomeTask.validate, []

    def once(self: OutcomeTask, model: torch.nn.Module) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(self, model)

    monkeypatch.setattr(OutcomeTask, "validate", once)
    with pytest.raises(KeyboardInterrupt):
        train("life_events", vertical.sizes, settings, vertical.lives, tmp_path / "cut")
    monkeypatch.undo()
    train("life_events", vertical.sizes, settings, vertical.lives, tmp_path / "cut")
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_pretraining_learns_and_cannot_be_exported(vertical: Any, tmp_path: Path) -> None:
    settings = replace(
        vertical.training, max_epochs=2, life=replace(vertical.training.life, task="pretraining")
    )
    train("life_events", vertical.sizes, settings, vertical.lives, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["validation_loss"] for line in lines]
    assert losses[-1] < losses[0]
    with pytest.raises(InputError, match="has not seen a label"):
        export_outcomes(tmp_path / "run", vertical.lives, ExportConfig(), tmp_path / "bundle")
