"""How a step changes weights: copied to every rank, or with the tables dealt out over them.

The loop knows neither. An engine makes the update of one step and keeps the checkpoints.

Replicated: Fabric's; every rank holds the whole model, and AdamW moves all of it.
Dealt: `recsys.training.sharding`; each rank holds some rows of every table. The tables' optimizer
works inside the backward pass; AdamW moves the rest. A checkpoint of any number of ranks is
continued by any other; the weights of the best validation are one file of the whole model.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recsys.training.checkpoint import Checkpoints, Progress, replace_file
from recsys.training.config import TrainConfig
from recsys.training.sharding import (
    Sharded,
    dense_parameters,
    gathered_weights,
    load_shards,
    save_shards,
    shard,
)

LossOf = Callable[[Any], Tensor]
"""From a thing with a `loss` to the loss of this step."""


class Engine(Protocol):
    """What the loop asks of it."""

    def settled(self) -> nn.Module:
        """The model, alike on all ranks, to be validated on all of them together."""
        ...

    def update(self, loss_of: LossOf, rate: float, clip_norm: float) -> Tensor:
        """One step at a learning rate; returns this rank's loss."""
        ...

    def agreed(self, wish: bool) -> bool:  # noqa: FBT001 - the one thing it is about
        """The wish of one rank where all have to act together; else each rank's own."""
        ...

    def restore(self) -> Progress:
        """Continue from the newest checkpoint, if there is one."""
        ...

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint."""
        ...

    def save_best(self, step: int) -> None:
        """Keep the present weights; they become the best with the next `save`."""
        ...


def adam(parameters: Any, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW as the config has it."""
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


@dataclass(frozen=True, slots=True)
class Replicated:
    """An `Engine`: every rank holds everything."""

    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    wrapped: Any
    """Model and optimizer as Fabric wraps them: device, precision, gradient sync."""
    stepper: Any

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, checkpoints: Checkpoints
    ) -> "Replicated":
        """Move the model to its device."""
        optimizer = adam(model.parameters(), config)
        wrapped, stepper = fabric.setup(model, optimizer)
        wrapped.mark_forward_method("loss")
        return cls(fabric, model, optimizer, checkpoints, wrapped, stepper)

    def settled(self) -> nn.Module:
        """The model itself."""
        return self.model

    def update(self, loss_of: LossOf, rate: float, clip_norm: float) -> Tensor:
        """Backward and step, by Fabric."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(self.wrapped)
        self.fabric.backward(loss)
        if clip_norm:
            self.fabric.clip_gradients(self.wrapped, self.stepper, max_norm=clip_norm)
        self.stepper.step()
        self.stepper.zero_grad()
        return loss.detach()

    def agreed(self, wish: bool) -> bool:  # noqa: FBT001
        """Rank 0 alone writes: nothing to agree on."""
        return wish

    def restore(self) -> Progress:
        """From the file that rank 0 wrote."""
        return self.checkpoints.restore(self.model, self.optimizer)

    def save(self, progress: Progress) -> None:
        """Rank 0 writes."""
        self.checkpoints.save(self.model, self.optimizer, progress)

    def save_best(self, step: int) -> None:
        """Rank 0 writes."""
        self.checkpoints.save_best(self.model, step)


@dataclass(frozen=True, slots=True)
class WithLoss:
    """The sharded model as tasks know models."""

    parallel: nn.Module

    def loss(self, batch: Any) -> Tensor:
        """Its forward pass is its loss."""
        return self.parallel(batch)


@dataclass(frozen=True, slots=True)
class Dealt:
    """An `Engine`: the rows of the tables are dealt out."""

    fabric: Fabric
    model: nn.Module
    sharded: Sharded
    checkpoints: Checkpoints

    @classmethod
    def of(
        cls, fabric: Fabric, model: nn.Module, config: TrainConfig, checkpoints: Checkpoints
    ) -> "Dealt":
        """Deal out, in a started process group. Raises InputError where there is nothing to."""
        assert config.shard is not None
        model.to(fabric.device)
        sharded = shard(
            model,
            adam(dense_parameters(model), config),
            tables=config.shard.optimizer,
            table_rate=config.shard.learning_rate,
            device=fabric.device,
        )
        return cls(fabric, model, sharded, checkpoints)

    def settled(self) -> nn.Module:
        """Statistics of BatchNorm are those of rank 0 everywhere."""
        with torch.no_grad():
            for buffer in self.model.buffers():
                dist.broadcast(buffer, 0)
        return self.model

    def update(self, loss_of: LossOf, rate: float, clip_norm: float) -> Tensor:
        """The tables move during the backward pass, the rest after it."""
        for group in self.sharded.optimizer.param_groups:
            group["lr"] = rate
        self.sharded.optimizer.zero_grad()
        with self.fabric.autocast():
            loss = loss_of(WithLoss(self.sharded.parallel))
        loss.backward()
        self.sharded.optimizer.step()
        return loss.detach()

    def agreed(self, wish: bool) -> bool:  # noqa: FBT001
        """Rank 0 decides: clocks differ, and all ranks write."""
        flag = torch.tensor([int(wish)], device=self.fabric.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def restore(self) -> Progress:
        """Each rank reads its rows from the files of all that wrote."""
        path = self.checkpoints.path
        if not path.exists():
            return Progress(best_score=self.checkpoints.least_score)
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
        load_shards(self.sharded, self._shards(progress.step))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_file(path).items():
            index, field = name.split(".", 1)
            state.setdefault(int(index), {})[field] = tensor
        optimizer = self.sharded.optimizer
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return progress

    def save(self, progress: Progress) -> None:
        """Every rank writes its rows, then rank 0 the file that makes them the checkpoint."""
        folder = self._shards(progress.step)
        self._write_shards(folder)
        if self.fabric.is_global_zero:
            state = self.sharded.optimizer.state_dict()["state"]
            tensors = {f"{i}.{n}": x.contiguous() for i, s in state.items() for n, x in s.items()}
            header = {"progress": json.dumps(asdict(progress))}
            replace_file(self.checkpoints.path, lambda path: save_file(tensors, path, header))
            for path in self.checkpoints.directory.glob("shards-*"):
                if path != folder:
                    shutil.rmtree(path)
            for path in self.checkpoints.directory.glob("best-*.safetensors"):
                if path != self.checkpoints.best_path(progress.best_step):
                    path.unlink()
        dist.barrier()

    def save_best(self, step: int) -> None:
        """Rank 0 puts the rows of all ranks together: one file, as one process would write it."""
        folder = self.checkpoints.directory / "shards-best"
        self._write_shards(folder)
        if self.fabric.is_global_zero:
            weights = gathered_weights(folder)
            replace_file(self.checkpoints.best_path(step), lambda path: save_file(weights, path))
            shutil.rmtree(folder)
        dist.barrier()

    def _shards(self, step: int) -> Path:
        return self.checkpoints.directory / f"shards-{step}"

    def _write_shards(self, folder: Path) -> None:
        """A folder of this many ranks' files and no others."""
        if self.fabric.is_global_zero:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        dist.barrier()
        save_shards(self.sharded, folder)
