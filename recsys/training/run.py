"""`dataset/` and configurations to `run/`.

    model.safetensors   weights of the best validation
    config.json         model name, its whole configuration, the training configuration
    result.json         the best validation score and its step
    metrics.jsonl, tensorboard/

An unfinished run lives in the hidden sibling of `out`. The same call resumes it from its newest
checkpoint; on a CPU the result is then bit for bit that of an undisturbed run.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from safetensors.torch import load_model
from torch import nn

from features.errors import InputError
from features.stage import (
    lock,
    partial_path,
    publish,
    read_manifest,
    refuse_existing,
    verify_files,
    write_manifest,
)
from recsys.models import MODELS
from recsys.models.interface import Retriever
from recsys.training.checkpoint import Checkpoints, Progress, replace_file
from recsys.training.config import TrainConfig
from recsys.training.journal import Journal, open_journal
from recsys.training.kinds import kind_of, model_config
from recsys.training.loop import fit
from recsys.training.task import Task

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RESULT = "result.json"
KIND = "run"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a training ended: the run directory, and its best validation."""

    run: Path
    score: float
    """The deciding figure of its kind: for a retriever NDCG@10, seen items left out."""
    step: int


def train(
    model_name: str,
    model_options: Mapping[str, Any],
    config: TrainConfig,
    dataset: Path,
    out: Path,
) -> TrainResult:
    """Train one model and publish its run directory; resumes what an interrupted call left.

    `model_options` are the model's fields without `name` and without those that the dataset fills.
    Raises InputError when `out` exists, or when configuration and dataset do not fit.
    """
    refuse_existing(out)
    kind = kind_of(model_name)
    data = kind.open(dataset)
    sizes = model_config(model_name, model_options, kind.facts(data))
    identity = {
        "model": {"name": model_name, "config": asdict(sizes)},
        "train": asdict(config),
        "dataset": data.manifest.sha256,
    }
    fabric = start_fabric(config)
    with working_directory(fabric, out, identity) as directory:
        if not (directory / RESULT).exists():
            torch.manual_seed(config.seed)
            model = MODELS[model_name].model(sizes)
            progress = run_loop(
                fabric, model, config, kind.task(fabric, model, config, data), directory
            )
            if fabric.is_global_zero:
                keep_best(directory, progress)
        fabric.barrier()
        result = TrainResult(run=out, **json.loads((directory / RESULT).read_text()))
        fabric.barrier()
        if fabric.is_global_zero:
            for path in (Checkpoints(directory).path, *directory.glob("best-*.safetensors")):
                path.unlink(missing_ok=True)
            write_manifest(directory, KIND, identity, data.manifest.sha256)
            publish(directory, out)
        fabric.barrier()
    return result


def start_fabric(config: TrainConfig) -> Fabric:
    """One process, or under `torchrun` one of several."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    return fabric


@contextmanager
def working_directory(fabric: Fabric, out: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The hidden sibling of `out`, holding what an interrupted run of the same identity left."""
    directory = partial_path(out)
    wanted = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    with lock(out) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            mark = directory / CONFIG
            if not mark.exists() or mark.read_text() != wanted:
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                mark.write_text(wanted)
        fabric.barrier()
        yield directory


def run_loop(
    fabric: Fabric, model: nn.Module, config: TrainConfig, task: Task, directory: Path
) -> Progress:
    """Fit `model`, with checkpoints and journal in `directory`."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    checkpoints = Checkpoints(directory, writes=fabric.is_global_zero)
    opened = open_journal(directory) if fabric.is_global_zero else nullcontext(Journal())
    with opened as journal:
        return fit(fabric, model, optimizer, task, journal, checkpoints, config)


def keep_best(directory: Path, progress: Progress) -> None:
    """Turn the best checkpoint into the result; from here on a rerun only publishes."""
    best = Checkpoints(directory).best_path(progress.best_step)
    replace_file(directory / WEIGHTS, lambda path: path.write_bytes(best.read_bytes()))
    text = json.dumps({"score": progress.best_score, "step": progress.best_step}) + "\n"
    replace_file(directory / RESULT, lambda path: path.write_text(text))


def load_run(run: Path) -> tuple[nn.Module, str, Any]:
    """The model of a run in evaluation mode, its name, and its configuration.

    Raises InputError when the directory is no run or its files are damaged.
    """
    verify_files(run, read_manifest(run, KIND))
    content = json.loads((run / CONFIG).read_text())["model"]
    entry = MODELS[content["name"]]
    config = TypeAdapter(entry.config).validate_python(content["config"])
    model = entry.model(config)
    load_model(model, run / WEIGHTS)
    return model.eval(), content["name"], config


def load_retriever(run: Path) -> tuple[Retriever, str]:
    """The model of a run that finds candidates, and its name; see `load_run`.

    Raises InputError also when the run trained a model of another kind.
    """
    model, name, _ = load_run(run)
    if not isinstance(model, Retriever):
        raise InputError(
            f"{run} trained {name}, a {MODELS[name].kind}: a candidate source needs a retriever"
        )
    return model, name
