"""What diversity and quotas cost: NDCG beside the variety of the lists, one policy a row.

    python benchmarks/policy_curve.py BUNDLE DATASET [--users 1500] [--column genres]

The test cases of a dataset through `Recommender.rank`, as served, k = 10. Variety: mean share of
pairs of a list without a common value of the column; distinct values a list; share of the
catalogue that some list shows. Differences of NDCG@10 are per user, with a 95 % interval.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.store import Dataset
from offline_eval.metrics import ndcg
from offline_eval.significance import paired_difference
from offline_eval.task import Task
from serving.options import Options
from serving.policy_spec import DPP, MMR, PolicySpec, Quota
from serving.recommender import Recommender

K = 10


def policies(column: str) -> dict[str, PolicySpec]:
    found = {"as ranked": PolicySpec()}
    for weight in (0.05, 0.1, 0.2, 0.3, 0.5):
        found[f"MMR {weight}"] = PolicySpec(diversity=MMR(weight=weight, similarity=column))
    for weight in (0.01, 0.03, 0.1, 0.2, 0.4):
        found[f"DPP {weight}"] = PolicySpec(diversity=DPP(weight=weight, similarity=column))
    for most in (6, 4, 3, 2):
        quota = Quota(column=column, at_most=most, within=K)
        found[f"at most {most} a value"] = PolicySpec(quotas=(quota,))
    return found


def variety(lists: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[float, float]:
    """Mean share of pairs without a common value, and mean number of distinct values."""
    apart, distinct = [], []
    for row in lists:
        sets = [set(values[item][values[item] > 1].tolist()) for item in row if item]
        pairs = [not (a & b) for n, a in enumerate(sets) for b in sets[:n]]
        apart.append(np.mean(pairs) if pairs else 0.0)
        distinct.append(len(set().union(*sets)))
    return float(np.mean(apart)), float(np.mean(distinct))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--users", type=int, default=1_500)
    parser.add_argument("--column", default="genres")
    options = parser.parse_args()
    recommender = Recommender.load(options.bundle)
    data = Dataset.open(options.dataset)
    task = Task.of(data, "test", exclude_seen=True)
    rows = np.linspace(0, len(task) - 1, min(options.users, len(task))).astype(np.int64)
    histories, at = task.histories.take(rows), task.at[rows]
    targets = [task.truth.block(row, row + 1).items for row in rows]
    values = recommender.item_table[options.column].reshape(data.schema.num_items + 1, -1)
    values = values.astype(np.int64)
    base = None
    print(f"| policy | NDCG@{K} | difference | pairs apart | values a list | coverage |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, spec in policies(options.column).items():
        policy = recommender.policy_of(Options(policy=spec))
        lists = recommender.rank(histories, k=K, at=at, policy=policy).items
        hits = np.stack([np.isin(row, right) for row, right in zip(lists, targets, strict=True)])
        gains = ndcg(hits, np.array([len(right) for right in targets]))
        base = gains if base is None else base
        found = paired_difference(gains, base, resamples=500, seed=0)
        apart, distinct = variety(lists, values)
        shown = len(np.unique(lists[lists > 0])) / data.schema.num_items
        print(
            f"| {name} | {np.nanmean(gains):.4f} | {found.value:+.4f} "
            f"[{found.low:+.4f}, {found.high:+.4f}] | {apart:.3f} | {distinct:.1f} | {shown:.3f} |"
        )


if __name__ == "__main__":
    main()
