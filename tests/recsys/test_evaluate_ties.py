"""Vectors that are all alike, of a model that has collapsed, are worth what chance is worth."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_model

from features.stage import write_stage
from recsys.evaluate import evaluate
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.models.recformer import Recformer
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.validation import Validation
from tests.recsys.training import planted_text as shop

K = 10
SIZES = {"dim": 32, "num_blocks": 1, "num_heads": 2, "hidden": 32, "max_len": 8, "max_tokens": 80}


def test_constant_vectors_score_as_chance_does(tmp_path: Path) -> None:
    data = shop.planted(tmp_path)
    config = model_config("recformer", SIZES, dataset_facts(data))
    model = Recformer(config).eval()
    last = model.encoder.blocks[-1].feed_forward_norm
    assert isinstance(last, torch.nn.LayerNorm)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.ones_(last.bias)
    model.freeze_items()
    chance = K / data.schema.num_items  # about 0.1

    fabric = Fabric(accelerator="cpu", devices=1)
    found = Validation.of(data, 1_000, 0, (0, 1)).scores(fabric, model)
    assert chance / 4 < found[f"hit_rate@{K}"] < 3 * chance

    parent = data.manifest.sha256
    with write_stage(tmp_path / "run", kind="run", config={}, parent=parent) as directory:
        save_model(model, str(directory / "model.safetensors"))
        content = {"model": {"name": "recformer", "config": asdict(config)}}
        (directory / "config.json").write_text(json.dumps(content))
    settings = ExportConfig(sources=("model", "popularity"), golden_requests=1)
    export(tmp_path / "run", data.path, settings, tmp_path / "bundle")
    report = evaluate(
        tmp_path / "bundle", data.path, tmp_path / "report", ks=(K,), baselines=(), resamples=20
    )
    estimates = report.bundle.estimates
    assert chance / 4 < estimates[f"hit_rate@{K}"].value < 3 * chance
    assert estimates[f"ndcg@{K}"].value < 2 * chance
    assert estimates["auc"].value == pytest.approx(0.5, abs=0.15)
