"""A small dataset and an untrained run on it: an export does not ask whether a model is good."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model

from data.build import build_events
from data.config import Synthetic
from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.stage import write_stage
from features.store import Dataset
from recsys.models.sasrec import SASRec, SASRecConfig


@dataclass(frozen=True)
class Inputs:
    """What an export reads."""

    dataset: Path
    run: Path
    model: SASRec


def write_run(out: Path, dataset: Path, model: SASRec, config: SASRecConfig) -> None:
    parent = Dataset.open(dataset).manifest.sha256
    with write_stage(out, kind="run", config={}, parent=parent) as directory:
        save_model(model, str(directory / "model.safetensors"))
        content = {"model": {"name": "sasrec", "config": asdict(config)}}
        (directory / "config.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A shop of 200 items and 300 users, and a SASRec with random weights."""
    root = tmp_path_factory.mktemp("export")
    build_events(Synthetic(num_users=300, num_items=200, clicks_per_user=16), root / "events")
    build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), root / "dataset")
    torch.manual_seed(0)
    num_items = Dataset.open(root / "dataset").schema.num_items
    config = SASRecConfig(num_items=num_items, max_len=30, dim=16)
    model = SASRec(config).eval()
    write_run(root / "run", root / "dataset", model, config)
    return Inputs(root / "dataset", root / "run", model)
