"""Latency of finding 100 items of a large catalogue, with and without the candidate cut.

    python benchmarks/category_cut.py [--items 100000 1000000]

Vectors are random, 64 wide; categories follow a Zipf law, 1,000 of them; logits are random, so that
large and small categories are taken alike. One history at a time, one thread, the encoder not
included. Peers of the cut, in the same run: what serving takes for that size (an exact scan below
50,000 items, else product quantisation) and one product with all vectors (float32, exact).
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from features.encode import Histories
from serving.block import Block
from serving.category_cut import CategoryCut
from serving.category_spec import CategoryCutSpec
from serving.index import ExactIndex, build_index
from serving.policy import Policy

DIM, VALUES, K, RUNS = 64, 1_000, 100, 200


def median_ms(search: Callable[[int], object]) -> tuple[float, float]:
    """Median and 99th percentile of RUNS calls, in milliseconds."""
    took = []
    for run in range(RUNS):
        began = time.perf_counter()
        search(run)
        took.append(1e3 * (time.perf_counter() - began))
    return float(np.median(took)), float(np.quantile(took, 0.99))


def measure(num_items: int) -> None:
    """One line a way of searching."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(num_items + 1, DIM)).astype(np.float16)
    weights = 1 / np.arange(1, VALUES + 1)
    codes = 2 + draw.choice(VALUES, num_items + 1, p=weights / weights.sum()).astype(np.int32)
    codes[0] = 0
    queries = draw.normal(size=(RUNS, DIM)).astype(np.float32)
    logits = draw.normal(size=(RUNS, VALUES)).astype(np.float32)
    policy = Policy(exclude_seen=True)
    histories = Histories.of(draw.integers(1, num_items + 1, (RUNS, 20)).tolist())
    whole = Block.of(histories, np.zeros(RUNS, np.int64), num_items)
    blocks = [whole.row(run) for run in range(RUNS)]
    indexes = {"all vectors, exact": ExactIndex(vectors)}
    index = build_index(vectors)
    if index.description != "exact":
        indexes[f"serving: {index.description}"] = index
    rows = {
        name: median_ms(lambda run, one=one: one.search(queries[[run]], blocks[run], policy, K))
        for name, one in indexes.items()
    }
    for share in (0.04, 0.1):
        spec = CategoryCutSpec(column="kind", share=share)
        cut = CategoryCut.of(spec, VALUES, {"kind": codes}, vectors)
        held = np.mean([
            sum(int(cut.offsets[c] - cut.offsets[c - 1]) for c in cut.chosen(row).tolist())
            for row in logits
        ])  # fmt: skip
        name = f"cut at {share:.0%} ({held / num_items:.1%} of the items on average)"
        rows[name] = median_ms(
            lambda run, cut=cut: cut.search(queries[[run]], logits[[run]], blocks[run], policy, K)
        )
    exact = rows["all vectors, exact"][0]
    for name, (median, worst) in rows.items():
        print(f"| {num_items:,} | {name} | {median:.2f} | {worst:.2f} | {exact / median:.1f}x |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", nargs="+", type=int, default=[20_000, 100_000, 1_000_000])
    print("| items | search | median, ms | p99, ms | beside exact |")
    print("|---|---|---|---|---|")
    for num_items in parser.parse_args().items:
        measure(num_items)


if __name__ == "__main__":
    main()
