"""The loop: everything that changes a weight is in `fit`."""

import math
import time
from collections.abc import Callable, Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor

from recsys.training.checkpoint import Progress
from recsys.training.config import TrainConfig
from recsys.training.distributed import seed_step
from recsys.training.engines import Engine
from recsys.training.journal import Journal
from recsys.training.task import Task

SECONDS_PER_CHECKPOINT = 60.0
"""Between validations; the state after a step is the same whenever it is saved."""


def learning_rate(config: TrainConfig, step: int, epoch: int) -> float:
    """Linear warm-up, and over the last epochs a cosine down to `decay_to` of the full rate.

    epoch: steps of one epoch.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    num_steps = config.max_epochs * epoch
    decay_steps = (config.decay_epochs or config.max_epochs) * epoch
    decayed = max(0.0, 1 - (num_steps - step) / decay_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return config.learning_rate * warmup * (config.decay_to + (1 - config.decay_to) * cosine)


def fit(
    fabric: Fabric, engine: Engine, task: Task, journal: Journal, config: TrainConfig
) -> Progress:
    """Train from the newest checkpoint, if any, until `max_epochs` or until patience runs out.

    A task of no steps is validated once.

    Afterwards `checkpoints.best_path(progress.best_step)` holds the best weights.
    """
    progress = engine.restore()
    engine.settled().train()
    epoch = task.steps_per_epoch
    num_steps, steps_per_validation = (
        config.max_epochs * epoch,
        config.epochs_per_validation * epoch,
    )
    journal.start(progress.step, num_steps)
    if not epoch and progress.best_step < 0:
        return measure(engine, task, journal)
    loss_sum = torch.tensor(progress.loss_sum, device=fabric.device)
    saved_at = time.monotonic()
    started = saved_at - progress.seconds
    batches = task.batches(progress.step)
    while progress.step < num_steps and progress.validations_since_best < config.patience:
        step, batch = progress.step, next(batches)
        seed_step(config.seed, step, fabric.global_rank)
        rate, there = learning_rate(config, step, epoch), batch.to(fabric.device)
        loss = engine.update(
            lambda model, batch=there, step=step: task.loss(model, batch, step),
            rate,
            config.clip_norm,
        )
        loss_sum += loss
        progress.step = step + 1
        journal.step(progress.step, loss, batch)
        due = progress.step % steps_per_validation == 0 or progress.step == num_steps
        progress.seconds = time.monotonic() - started
        if due:
            steps = (progress.step - 1) % steps_per_validation + 1
            scores = {
                "loss": mean_loss(fabric, loss_sum) / steps,
                "events_per_second": journal.events_per_second(),
                **task.validate(engine.settled()),
            }
            loss_sum.zero_()
            judge(progress, scores, scores[task.score], lambda: engine.save_best(progress.step))
            journal.validation(progress, progress.step / epoch, scores)
        if due or engine.agreed(time.monotonic() - saved_at > SECONDS_PER_CHECKPOINT):
            progress.loss_sum = loss_sum.item()
            engine.save(progress)
            saved_at = time.monotonic()
    return progress


def mean_loss(fabric: Fabric, loss_sum: Tensor) -> float:
    """The mean over the ranks; after a resumed checkpoint between validations, in part rank 0's."""
    return torch.as_tensor(fabric.all_reduce(loss_sum.clone(), reduce_op="mean")).item()


def measure(engine: Engine, task: Task, journal: Journal) -> Progress:
    """The one validation of a task of no steps."""
    progress, scores = Progress(), task.validate(engine.settled())
    judge(progress, scores, scores[task.score], lambda: engine.save_best(0))
    journal.validation(progress, 0, scores)
    engine.save(progress)
    return progress


def judge(
    progress: Progress, scores: Mapping[str, float], score: float, keep: Callable[[], None]
) -> None:
    """Note whether this validation is the best so far, and `keep` its weights if so."""
    if not all(math.isfinite(value) for value in scores.values()):
        raise FloatingPointError(
            f"after step {progress.step} the scores are {dict(scores)}: did the loss diverge? "
            f"Try a lower learning_rate, or clip_norm = 1.0"
        )
    progress.validations_since_best += 1
    if score > progress.best_score:
        progress.best_score, progress.best_step = score, progress.step
        progress.validations_since_best = 0
        keep()
