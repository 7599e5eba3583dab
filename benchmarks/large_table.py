"""Peak memory of DARE while it trains with a table of 20 million rows.

    torchrun --nproc-per-node 2 benchmarks/large_table.py --steps 20

Both table sets have a row for each of 20 million items (width 16), dealt out over the ranks and
moved by row-wise Adagrad. Random batches: only memory and time are of interest. Prints the peak
resident memory of every rank, and what `memory_report` says of the tables.
"""

import argparse
import resource
import time
import warnings

import torch
import torch.distributed as dist

from recsys.models.dare import DARE, DAREConfig
from recsys.models.interface import HistoryBatch, ItemBatch, RankingBatch
from recsys.models.tables import Table, memory_report
from recsys.training.sharding import dense_parameters, shard

LENGTH, BATCH, CANDIDATES = 100, 64, 5


def batch_of(rows: int, draw: torch.Generator) -> RankingBatch:
    """Random histories, candidates and labels."""
    items = torch.randint(1, rows, (BATCH, LENGTH), generator=draw)
    candidates = torch.randint(1, rows, (BATCH, CANDIDATES), generator=draw)
    labels = (torch.rand(BATCH, CANDIDATES, 1, generator=draw) < 0.2).float()
    known = torch.ones_like(labels, dtype=torch.bool)
    return RankingBatch(HistoryBatch(items), ItemBatch(candidates, {}), labels, known)


def gib(value: float) -> str:
    """Bytes for people."""
    return f"{value / 2**30:.2f} GiB"


def main() -> None:
    """Train some steps and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    sizes = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    config = DAREConfig(
        num_items=sizes.rows - 1, dim=sizes.dim, max_len=LENGTH, tables="torchrec", init="torch"
    )
    model = DARE(config)
    sharded = shard(
        model,
        torch.optim.Adam(dense_parameters(model), lr=0.01),
        tables="rowwise_adagrad",
        table_rate=0.05,
        device=torch.device("cpu"),
    )
    draw = torch.Generator().manual_seed(rank)
    started, losses = time.perf_counter(), []
    for _ in range(sizes.steps):
        losses.append(sharded.step(batch_of(sizes.rows, draw)).item())
    seconds = time.perf_counter() - started
    peak = torch.tensor([float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)])
    peaks = [torch.zeros(1) for _ in range(world)]
    dist.all_gather(peaks, peak)
    if rank == 0:
        one = Table(name="item", rows=sizes.rows, dim=sizes.dim, features=("item",))
        said = 2 * memory_report([one], "rowwise_adagrad", ranks=world)[0].total
        print(
            f"two tables of {sizes.rows:,} x {sizes.dim}, {world} ranks, {sizes.steps} "
            f"steps, {seconds / sizes.steps:.2f} s a step"
        )
        print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
        print(f"tables and state of a rank, as reported: {gib(said)}")
        print(f"peak resident memory by rank: {', '.join(gib(p.item()) for p in peaks)}")
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
