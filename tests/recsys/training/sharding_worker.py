"""One rank of the sharding test: 50 steps of SGD, and checkpoints. Started by torchrun."""

import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from recsys.models.dare import DARE, DAREConfig
from recsys.models.interface import Column, HistoryBatch, ItemBatch, RankingBatch
from recsys.models.tables import Backend
from recsys.training.sharding import dense_parameters, load_shards, save_shards, shard

RATE, STEPS, ROWS = 0.5, 50, 16


def model_of(backend: Backend) -> DARE:
    torch.manual_seed(0)
    columns = (Column(name="colour", kind="category", size=6),)
    sizes = {"dim": 4, "top_k": 4, "hidden": (8, 4), "max_len": 12, "init": "torch"}
    model = DARE(DAREConfig(num_items=40, columns=columns, tables=backend, **sizes))
    for head in (model.head, model.auxiliary):
        assert head is not None
        head.normalise.train(False)  # statistics of a batch would differ from those of its parts
    return model


def batch_of(step: int, rank: int, world: int) -> RankingBatch:
    draw = torch.Generator().manual_seed(step)
    items = torch.randint(1, 41, (ROWS, 6), generator=draw)[rank::world]
    candidates = torch.randint(1, 41, (ROWS, 3), generator=draw)[rank::world]
    colours = [{"colour": 2 + x % 4} for x in (items, candidates)]
    labels = (candidates % 2).float().unsqueeze(-1)
    return RankingBatch(
        HistoryBatch(items, attributes=colours[0]),
        ItemBatch(candidates, colours[1]),
        labels,
        torch.ones_like(labels, dtype=torch.bool),
    )


def main(mode: str, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    model = model_of("torchrec")
    optimizer = torch.optim.SGD(dense_parameters(model), lr=RATE)
    sharded = shard(model, optimizer, tables="sgd", table_rate=RATE, device=torch.device("cpu"))
    first = 0
    if mode == "resume":
        load_shards(sharded, directory)
        first = STEPS
    losses = []
    for step in range(first, first + STEPS):
        loss = sharded.step(batch_of(step, rank, world))
        dist.all_reduce(loss)
        losses.append(loss.item() / world)
    if mode == "start":
        save_shards(sharded, directory)
    if rank == 0:
        (directory / f"losses-{mode}-{world}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]))
