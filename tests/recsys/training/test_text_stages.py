"""Recformer's stages of training: one after the other, and interrupted in any of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from features.store import Dataset
from recsys.training import loop
from recsys.training.config import TrainConfig
from recsys.training.run import train
from recsys.training.text_config import PretrainingConfig, TextConfig, TwoStageConfig
from tests.recsys.training import planted_text as shop

SIZES = {"dim": 32, "num_blocks": 2, "num_heads": 2, "hidden": 64, "max_len": 8, "max_tokens": 80}
CONFIG = TrainConfig(batch_size=32, max_epochs=2, learning_rate=2e-3, accelerator="cpu")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shop.planted(tmp_path_factory.mktemp("planted"))


def scores_of(run: Path) -> list[tuple[float, ...]]:
    names = ("step", "loss", "hit_rate@10", "ndcg@10")
    return [
        tuple(json.loads(line)[name] for name in names)
        for path in sorted(run.rglob("metrics.jsonl"))
        for line in path.read_text().splitlines()
    ]


def interrupt(monkeypatch: pytest.MonkeyPatch, stop_at: int, work: Callable[[], object]) -> None:
    """Call `work`, which is interrupted before its training step number `stop_at`."""
    calls, seeded = 0, loop.seed_step

    def stopping(seed: int, step: int, rank: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        seeded(seed, step, rank)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SECONDS_PER_CHECKPOINT", 0.0)
        patch.setattr(loop, "seed_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            work()


def assert_same_run(found: Path, expected: Path) -> None:
    name = "model.safetensors"
    assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert scores_of(found) == scores_of(expected)


@pytest.mark.parametrize("stop_at", [7, 13])  # the second epoch of stage 1, stage 2 (10 steps each)
def test_an_interrupted_fine_tuning_ends_with_the_same_bytes(
    planted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    config = replace(CONFIG, recformer=TwoStageConfig())
    work = partial(train, "recformer", SIZES, config, planted.path)
    work(tmp_path / "whole")
    interrupt(monkeypatch, stop_at, lambda: work(tmp_path / "broken"))
    work(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_an_interrupted_pre_training_ends_with_the_same_bytes(
    planted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = str(planted.path / "tokenizer.json")
    other = shop.planted(tmp_path / "other", seed=1, tokenizer=tokenizer)
    settings = PretrainingConfig(datasets=(str(planted.path), str(other.path)), epoch_steps=4)
    config = replace(CONFIG, max_epochs=2, recformer=settings)
    work = partial(train, "recformer", SIZES, config, planted.path)
    work(tmp_path / "whole")
    interrupt(monkeypatch, 7, lambda: work(tmp_path / "broken"))
    work(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_a_contrast_on_the_same_dataset_comes_before_the_two_stages(
    planted: Dataset, tmp_path: Path
) -> None:
    def run(name: str, settings: TextConfig, epochs: int) -> Path:
        config = replace(CONFIG, max_epochs=epochs, recformer=settings)
        train("recformer", SIZES, config, planted.path, tmp_path / name)
        return tmp_path / name

    for weight in (0.1, 0.0):
        two = TwoStageConfig(contrast_epochs=2, contrast_masked_weight=weight, second_stage=False)
        whole = run(f"whole-{weight}", two, 1)
        folders = {path.parent.name for path in whole.rglob("metrics.jsonl")}
        assert folders == {"contrast", "stage-1"}
        before = PretrainingConfig(datasets=(str(planted.path),), masked_weight=weight)
        alone = load_file(run(f"alone-{weight}", before, 2) / "model.safetensors")
        found = load_file(whole / "model.safetensors")
        for name, tensor in alone.items():
            if name.startswith("encoder."):  # its vectors are what stage 1 is trained against
                assert torch.equal(found[f"item_{name}"], tensor), name


def test_a_short_second_stage_is_validated_although_validations_are_rare(
    planted: Dataset, tmp_path: Path
) -> None:
    settings = TwoStageConfig(contrast_epochs=1, contrast_masked_weight=0.0, second_epochs=1)
    config = replace(CONFIG, max_epochs=2, epochs_per_validation=2, recformer=settings)
    train("recformer", SIZES, config, planted.path, tmp_path / "run")
    lines = {
        path.parent.name: len(path.read_text().splitlines())
        for path in (tmp_path / "run").rglob("metrics.jsonl")
    }
    assert lines == {"contrast": 1, "stage-1": 1, "stage-2": 1}
