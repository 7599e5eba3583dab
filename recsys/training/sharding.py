"""Tables dealt out over the ranks of a `torchrun`, row by row, and checkpoints that fit any number.

TorchRec's DistributedModelParallel shards the collections of `recsys.models.tables` and replicates
everything else. Each rank keeps a block of rows of every table; lookups travel by all-to-all.

    sharded = shard(model, optimizer, tables="sgd", ...)   every rank, the same weights
    sharded.step(batch)                                    loss, gradients, update of everything
    save_shards, load_shards                               one safetensors file a rank, rows named

A file says which rows it holds, so a checkpoint of two ranks is read by one or by four: each rank
takes from the files the rows that are its own. Nothing is gathered, and nothing is pickled.

The tables' optimizer works inside the backward pass, on the rows that a step touched, and is not
that of the rest. It is named, because the kinds are not the same thing: a dense Adam moves every
row at each step once it has momentum, `adam` here the touched rows only.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from features.errors import InputError

TableOptimizer = Literal["sgd", "adam", "rowwise_adagrad"]
FUSED = {"sgd": "EXACT_SGD", "adam": "ADAM", "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}
STATE = "optimizer."
"""Before the name of what an optimizer keeps of a table."""
WRAPPERS = ("_dmp_wrapped_module.", "module.")


class LossModule(nn.Module):
    """A model whose forward pass is its loss, as data parallelism wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model

    def forward(self, batch: Any) -> Tensor:
        """Mean loss of a batch."""
        return self.module.loss(batch)  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows [first, first + len(values)) of one table, on this rank."""

    table: str
    first: int
    values: Tensor


@dataclass(frozen=True, slots=True)
class Sharded:
    """A model in training on several ranks."""

    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    """Of everything but the tables."""

    def step(self, batch: Any) -> Tensor:
        """One update from this rank's part of a batch; returns this rank's loss."""
        self.optimizer.zero_grad()
        loss = self.parallel(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def blocks(self) -> Iterator[Block]:
        """The rows of every table that this rank holds."""
        for name, value in self.parallel.state_dict().items():
            if is_sharded(value):
                for part in value.local_shards():
                    yield Block(plain_name(name), part.metadata.shard_offsets[0], part.tensor)

    def state_blocks(self) -> Iterator[Block]:
        """What the tables' optimizer keeps of the same rows; nothing for SGD."""
        fused: Any = self.parallel
        for parameter, state in fused.fused_optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if is_sharded(value):
                    for part in value.local_shards():
                        first = part.metadata.shard_offsets[0]
                        yield Block(f"{STATE}{parameter}.{name}", first, part.tensor)

    def replicated(self) -> dict[str, Tensor]:
        """Everything that all ranks hold alike, by the model's own names."""
        return {
            plain_name(name): value
            for name, value in self.parallel.state_dict().items()
            if not is_sharded(value)
        }


def is_sharded(value: Any) -> bool:
    """Whether a value of a state dict is spread over ranks."""
    return hasattr(value, "local_shards")


def plain_name(name: str) -> str:
    """The weight's name in the model itself."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def shard(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    tables: TableOptimizer,
    table_rate: float,
    device: torch.device,
) -> Sharded:
    """Deal out the rows of every EmbeddingCollection; the weights stay those of `model`.

    optimizer: of the parameters that are no tables. Raises InputError where the model has no
    collection to shard. Call it on every rank of a started process group, with equal weights.
    """
    with warnings.catch_warnings():  # theirs, about parts of theirs that are not there
        warnings.simplefilter("ignore")
        from fbgemm_gpu.split_embedding_configs import EmbOptimType  # noqa: PLC0415 (slow to load)
        from torchrec import EmbeddingCollection  # noqa: PLC0415
        from torchrec.distributed.embedding import EmbeddingCollectionSharder  # noqa: PLC0415
        from torchrec.distributed.model_parallel import DistributedModelParallel  # noqa: PLC0415
        from torchrec.distributed.sharding_plan import (  # noqa: PLC0415
            construct_module_sharding_plan,
            row_wise,
        )
        from torchrec.distributed.types import ShardingPlan  # noqa: PLC0415

    fused = {"optimizer": EmbOptimType[FUSED[tables]], "learning_rate": table_rate}
    sharder: Any = EmbeddingCollectionSharder(fused_params=fused)
    wrapped, plan = LossModule(model), ShardingPlan({})
    whole: dict[str, Tensor] = {}
    for path, module in wrapped.named_modules():
        if not isinstance(module, EmbeddingCollection):
            continue
        # the planner refuses rows on a CPU, and its dense kernel damages memory there
        ways = {c.name: row_wise(compute_kernel="fused") for c in module.embedding_configs()}
        plan.plan[path] = construct_module_sharding_plan(
            module, ways, sharder, device_type=device.type
        )
        for name, value in module.state_dict().items():
            whole[plain_name(f"{path}.{name}")] = value.detach()  # freed once it is dealt out
    if not plan.plan:
        raise InputError('the model has no tables to shard: set model.tables = "torchrec"')
    parallel = DistributedModelParallel(wrapped, device=device, plan=plan, sharders=[sharder])
    found = Sharded(parallel, optimizer)
    with torch.no_grad():
        for block in found.blocks():
            block.values.copy_(whole[block.table][block.first : block.first + len(block.values)])
    return found


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are no tables of an EmbeddingCollection."""
    return [p for name, p in model.named_parameters() if ".collection.embeddings." not in name]


def save_shards(sharded: Sharded, directory: Path) -> None:
    """Write this rank's rows, with what their optimizer keeps of them, and on rank 0 what all hold
    alike; every rank calls it. The step count of Adam stays behind.
    """
    rank = dist.get_rank()
    blocks = [*sharded.blocks(), *sharded.state_blocks()]
    rows = {block.table: block.first for block in blocks}
    tensors = {block.table: block.values.contiguous() for block in blocks}
    header = {"first_rows": json.dumps(rows)}
    save_file(tensors, directory / f"tables-{rank}.safetensors", header)
    if rank == 0:
        shared = {name: value.contiguous() for name, value in sharded.replicated().items()}
        save_file(shared, directory / "model.safetensors")
    dist.barrier()


def saved_blocks(directory: Path) -> Iterator[Block]:
    """Every block of a checkpoint, whatever the number of ranks that wrote it."""
    for path in sorted(directory.glob("tables-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for table, first in json.loads(file.metadata()["first_rows"]).items():
                yield Block(table, first, file.get_tensor(table))


def load_shards(sharded: Sharded, directory: Path) -> None:
    """Fill this rank's rows, and what all hold alike, from a checkpoint of any number of ranks.

    Raises InputError where the checkpoint lacks rows.
    """
    with torch.no_grad():
        for mine in [*sharded.blocks(), *sharded.state_blocks()]:
            missing = len(mine.values)
            for theirs in saved_blocks(directory):
                if theirs.table != mine.table:
                    continue
                first = max(mine.first, theirs.first)
                last = min(mine.first + len(mine.values), theirs.first + len(theirs.values))
                if last > first:
                    rows = theirs.values[first - theirs.first : last - theirs.first]
                    mine.values[first - mine.first : last - mine.first].copy_(rows)
                    missing -= last - first
            if missing:
                raise InputError(
                    f"{directory} lacks {missing} of {len(mine.values)} rows of {mine.table} from "
                    f"row {mine.first}: is a file of the checkpoint missing?"
                )
        with safe_open(directory / "model.safetensors", framework="pt") as file:
            for name, value in sharded.replicated().items():
                value.copy_(file.get_tensor(name))


def gathered_weights(directory: Path) -> dict[str, Tensor]:
    """The whole model of a checkpoint, as one process would have it: what export loads."""
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parts: dict[str, list[Block]] = {}
    for block in saved_blocks(directory):
        if not block.table.startswith(STATE):
            parts.setdefault(block.table, []).append(block)
    for table, blocks in parts.items():
        blocks.sort(key=lambda block: block.first)
        weights[table] = torch.cat([block.values for block in blocks])
    return weights
