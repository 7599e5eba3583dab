"""Memory of a model of attributes beside a model of ids, by catalogue size.

    python benchmarks/m2trec_memory.py

Parameters are counted on the built model where its tables fit (up to 1 M items), and computed
beyond: SASRec's only grow by dim for each item, M2TRec's not at all. Training holds each parameter
four times (weight, gradient, two moments of Adam); serving holds the item vectors in half precision
whatever the model, and their index.
"""

from collections.abc import Callable

from torch import nn

from recsys.models.interface import Column
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


def main() -> None:
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
