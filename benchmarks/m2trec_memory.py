"""Memory of a model of attributes beside a model of ids, by catalogue size.

    python benchmarks/m2trec_memory.py              parameters and bytes
    python benchmarks/m2trec_memory.py --training   peak memory of three training steps, measured

Parameters are counted on the built model where its tables fit (up to 1 M items), and computed
beyond: SASRec's only grow by dim for each item, M2TRec's not at all. Training holds each parameter
four times (weight, gradient, two moments of Adam); serving holds the item vectors in half precision
whatever the model, and their index.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn

from recsys.models.interface import Column, HistoryBatch, ItemBatch
from recsys.models.losses import FullSoftmax, Objective, SampledSoftmax
from recsys.models.m2trec import M2TRec, M2TRecConfig
from recsys.models.sasrec import SASRec, SASRecConfig

DIM = 128
MEASURED = 1_000_000
"""Larger catalogues are computed."""
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
COLUMNS = (
    Column(name="category.1", kind="category", size=102),
    Column(name="category.2", kind="category", size=1_219),
    Column(name="brand", kind="category", size=10_002),
    Column(name="price.bucket", kind="category", size=102),
    Column(name="title", kind="text", size=16_384, width=24),
)
"""A catalogue of a large shop, at the widths of the specification."""


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def m2trec(_: int) -> M2TRec:
    return M2TRec(M2TRecConfig(columns=COLUMNS, dim=DIM))


def sasrec(num_items: int) -> SASRec:
    return SASRec(SASRecConfig(num_items=num_items, max_len=20, dim=DIM))


def parameters(build: Callable[[int], nn.Module], num_items: int, per_item: int) -> int:
    """Of the built model; beyond, the largest one built plus `per_item` for each item more."""
    built = min(num_items, MEASURED)
    return count(build(built)) + per_item * (num_items - built)


def train_a_little(model_name: str, num_items: int, negatives: int) -> None:
    """Three steps of Adam on 8 random windows, and the peak memory of this process in MB."""
    if model_name == "nothing":
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f}")
        return
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    model = m2trec(0) if model_name == "m2trec" else sasrec(num_items)
    catalogue = None
    if isinstance(model, M2TRec):
        shape = (num_items + 1,)
        attributes = {
            column.name: torch.randint(
                1, column.size, shape if column.width == 1 else (*shape, column.width),
                generator=draw, dtype=torch.int32,
            )
            for column in COLUMNS
        }  # fmt: skip
        catalogue = ItemBatch(torch.arange(num_items + 1), attributes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(3):
        items_BL = torch.randint(1, num_items + 1, (8, 21), generator=draw)
        batch = HistoryBatch(items_BL[:, :-1], targets=items_BL[:, 1:], catalogue=catalogue)
        objective: Objective = FullSoftmax()
        if negatives:
            sampled = torch.randint(1, num_items + 1, (negatives,), generator=draw)
            objective = SampledSoftmax(sampled, torch.zeros(negatives))
        optimizer.zero_grad()
        model.loss(batch, objective).backward()
        optimizer.step()
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f}")


def training_table() -> None:
    """Each cell in a process of its own; what a process holds that only imports is taken off."""
    print("| items | SASRec, full | SASRec, 4,096 sampled | M2TRec, full | M2TRec, 4,096 sampled |")
    print("|---|---|---|---|---|")
    idle = measured("nothing", 0, 0)
    for size in (1_000_000, 200_000, 100_000, 10_000):
        cells = []
        for name in ("sasrec", "m2trec"):
            for negatives in (0, 4_096):
                skipped = not negatives and size > 200_000
                cells.append("-" if skipped else f"{measured(name, size, negatives) - idle:,.0f}")
        print(f"| {size:,} | {' | '.join(cells)} |", flush=True)


def measured(name: str, num_items: int, negatives: int) -> float:
    """MB."""
    command = [sys.executable, __file__, "--one", name, str(num_items), str(negatives)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(found.stdout)


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        train_a_little(asked.one[0], int(asked.one[1]), int(asked.one[2]))
    elif asked.training:
        training_table()
    else:
        parameter_table()


def parameter_table() -> None:
    """Parameters and bytes by size of the catalogue."""
    print(f"dim {DIM}; MB = 10^6 bytes; * computed")
    names = ("items", "SASRec parameters", "training, MB", "M2TRec parameters", "training, MB")
    print(f"| {' | '.join(names)} | vectors (fp16), MB |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        ids, attributes = parameters(sasrec, size, DIM), parameters(m2trec, size, 0)
        star = "*" if size > MEASURED else ""
        print(
            f"| {size:,} | {ids:,}{star} | {16 * ids / 1e6:,.0f}{star} | {attributes:,} | "
            f"{16 * attributes / 1e6:,.0f} | {2 * DIM * size / 1e6:,.0f} |"
        )


if __name__ == "__main__":
    main()
