"""`dataset/` and configurations to `run/`.

    model.safetensors   weights of the best validation
    config.json         model name, its whole configuration, the training configuration
    result.json         the best validation score and its step
    metrics.jsonl, tensorboard/   (in a folder a stage, where there are several)
    tokenizer.json      that of the dataset, where it has one: other datasets that this run is to
                        start from are built with it

An unfinished run lives in the hidden sibling of `out`. The same call resumes it from its newest
checkpoint; on a CPU the result is then bit for bit that of an undisturbed run.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from safetensors.torch import load_model
from torch import nn

from features.errors import InputError
from features.layout import TOKENIZER
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
from recsys.training.checkpoint import CHECKPOINT, Checkpoints, Progress, replace_file
from recsys.training.config import TrainConfig
from recsys.training.distributed import RANKS, keep_global_batch
from recsys.training.engines import Dealt, Replicated
from recsys.training.journal import Journal, open_journal
from recsys.training.kinds import kind_of, model_config, stages_of, training_facts
from recsys.training.loop import fit
from recsys.training.start import identity_of, start_from
from recsys.training.task import Stage, Task

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


@dataclass(frozen=True, slots=True)
class Best:
    """The best validation of a training so far."""

    weights: Path | None = None
    score: float = float("-inf")
    step: int = 0
    """Steps done, of all stages."""


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
    if config.shard is not None and MODELS[model_name].kind != "ranker":
        raise InputError(
            f"[train.shard] is for rankers, and {model_name} is a {MODELS[model_name].kind}: "
            f"delete the section"
        )
    fabric = start_fabric(config)
    data = kind.open(dataset)
    facts = {**kind.facts(data), **training_facts(config)}
    sizes = model_config(model_name, model_options, facts)
    identity = {
        "model": {"name": model_name, "config": asdict(sizes)},
        "train": asdict(config),
        "dataset": data.manifest.sha256,
    }
    if config.start_from:
        identity["start"] = identity_of(Path(config.start_from))
    with working_directory(fabric, out, identity) as directory:
        if not (directory / RESULT).exists():
            torch.manual_seed(config.seed)
            model = MODELS[model_name].model(sizes)
            if config.start_from:
                start_from(Path(config.start_from), model_name, model, dataset)
            config = keep_global_batch(fabric, directory, config)
            stages = stages_of(model_name, fabric, model, config, data)
            best = run_stages(fabric, model, stages, directory)
            if fabric.is_global_zero:
                keep_best(directory, best)
        fabric.barrier()
        result = TrainResult(run=out, **json.loads((directory / RESULT).read_text()))
        fabric.barrier()
        if fabric.is_global_zero:
            leftovers = (RANKS, CHECKPOINT, "best-*.safetensors")
            for path in [path for name in leftovers for path in directory.rglob(name)]:
                path.unlink()
            for path in directory.rglob("shards-*"):
                shutil.rmtree(path)
            if (dataset / TOKENIZER).is_file():
                shutil.copyfile(dataset / TOKENIZER, directory / TOKENIZER)
            write_manifest(directory, KIND, identity, data.manifest.sha256)
            publish(directory, out)
        fabric.barrier()
    return result


def start_fabric(config: TrainConfig) -> Fabric:
    """One process, or under `torchrun` one of several. Raises InputError for shards without it."""
    if config.shard is not None and not dist.is_torchelastic_launched():
        raise InputError(
            "[train.shard] deals tables out over processes: start the command with "
            "`torchrun --nproc-per-node N --no-python recsys train ...`"
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 or config.shard is not None else "auto",
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


def run_stages(
    fabric: Fabric, model: nn.Module, stages: Sequence[Stage], directory: Path
) -> "Best":
    """One stage after the other, each from the best weights before it."""
    best, done = Best(), 0
    for stage in stages:
        folder = directory / stage.name
        if fabric.is_global_zero:
            folder.mkdir(exist_ok=True)
        fabric.barrier()
        if best.weights is not None:
            load_model(model, best.weights, device=str(fabric.device))
        checkpoints = Checkpoints(folder, fabric.is_global_zero, best.score)
        progress = run_loop(fabric, model, stage.config, stage.task, checkpoints)
        if progress.best_step >= 0:
            weights = checkpoints.best_path(progress.best_step)
            best = Best(weights, progress.best_score, done + progress.best_step)
        done += progress.step
    return best


def run_loop(
    fabric: Fabric, model: nn.Module, config: TrainConfig, task: Task, checkpoints: Checkpoints
) -> Progress:
    """Fit `model`, with the journal beside the checkpoints."""
    kind = Replicated if config.shard is None else Dealt
    engine = kind.of(fabric, model, config, checkpoints)
    folder = checkpoints.directory
    opened = open_journal(folder) if fabric.is_global_zero else nullcontext(Journal())
    with opened as journal:
        return fit(fabric, engine, task, journal, config)


def keep_best(directory: Path, best: Best) -> None:
    """Turn the best checkpoint into the result; from here on a rerun only publishes."""
    weights = best.weights
    assert weights is not None, "every training validates at least once"
    replace_file(directory / WEIGHTS, lambda path: path.write_bytes(weights.read_bytes()))
    text = json.dumps({"score": best.score, "step": best.step}) + "\n"
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
