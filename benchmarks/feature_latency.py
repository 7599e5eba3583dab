"""What point-in-time features cost in a request; writes feature_latency.md.

    RECSYS_DATA=<folder> python benchmarks/feature_latency.py --folder work/features

Two logs: MovieLens-1M (one behaviour) and the synthetic shop (four). Item-kNN and popularity
propose up to 200 candidates each, a LightGBM ranker of at most 50 trees reads either the basic
features or all of them, those of behaviours and of co-visitation included. One request after
another, in turns: the features alone (`Ranker.prepare`), the trees alone, and the whole of
`Recommender.recommend`. Times are processor milliseconds of the calling thread, the median over
the requests.
"""

import argparse
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from data.build import build_events
from data.config import DataConfig, MovieLens, Synthetic
from features.build import build_dataset
from features.config import FeatureConfig
from features.store import Dataset
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.ranker_config import RankerConfig
from serving.ranker import Ranker
from serving.recommender import Recommender

LOGS: dict[str, DataConfig] = {
    "MovieLens-1M": MovieLens(source="movielens-1m"),
    "shop": Synthetic(num_users=5_000, num_items=4_000, clicks_per_user=40, days=120),
}
SETS = ("basic", "all")
Rows = dict[str, list[float]]


def prepare(source: DataConfig, root: Path) -> None:
    """Bundles `basic` and `all` of a log below `root`."""
    if not (root / "events").exists():
        build_events(source, root / "events")
    if not (root / "dataset").exists():
        build_dataset(root / "events", FeatureConfig(covisit_reach=3), root / "dataset")
    for wanted in SETS:
        if not (root / wanted).exists():
            ranker = RankerConfig(max_trees=50, patience=50, features=wanted, max_cases=1_500)
            config = ExportConfig(
                sources=("item_knn", "popularity"),
                candidates=200,
                ranker="lightgbm",
                lightgbm=ranker,
            )
            export(None, root / "dataset", config, root / wanted)


def histories(data: Dataset, count: int) -> list[tuple[list[tuple], int]]:
    """What a service would be asked: a history in raw terms, and its moment."""
    raw = data.vocabulary("item").to_pylist()
    cases = data.cases("test")
    chosen = np.random.default_rng(0).permutation(len(cases))[:count]
    asked = []
    for case in chosen:
        rows = range(int(cases.starts[case]), int(cases.cuts[case]))
        history = [
            (
                raw[data.items[row] - 1],
                int(data.timestamps[row]),
                data.schema.event_types[data.events[row] - 1],
            )
            for row in rows
        ]
        asked.append((history, int(data.timestamps[cases.cuts[case]])))
    return [one for one in asked if one[0]]


def timed(recommender: Recommender, asked: list[tuple[list[tuple], int]], into: Rows) -> None:
    """Ask every history once."""
    ranker = recommender.pipeline.ranker
    assert isinstance(ranker, Ranker)
    spent = {"features": 0.0, "trees": 0.0}
    originals: dict[str, Any] = {"features": ranker.prepare, "trees": ranker._score}

    def wrapped(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            started = time.thread_time()
            found = originals[name](*arguments)
            spent[name] += time.thread_time() - started
            return found

        return call

    ranker.prepare, ranker._score = wrapped("features"), wrapped("trees")  # type: ignore[method-assign]
    for history, at in asked:
        spent.update(features=0.0, trees=0.0)
        started = time.thread_time()
        recommender.recommend(history, k=10, at=at)
        into["whole"].append((time.thread_time() - started) * 1e3)
        into["features"].append(spent["features"] * 1e3)
        into["trees"].append(spent["trees"] * 1e3)
    del ranker.prepare, ranker._score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="Only make the bundles.")
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    lines = [
        "| log | features | number | features, ms | trees, ms | whole, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, source in LOGS.items():
        root = arguments.folder / name
        prepare(source, root)
        if arguments.prepare:
            continue
        asked = histories(Dataset.open(root / "dataset"), arguments.requests)
        opened = {wanted: Recommender.load(root / wanted) for wanted in SETS}
        rows: dict[str, Rows] = {w: {"features": [], "trees": [], "whole": []} for w in SETS}
        for _ in range(arguments.rounds):
            for wanted in SETS:
                timed(opened[wanted], asked, rows[wanted])
        for wanted in SETS:
            spec = opened[wanted].manifest.ranker
            assert spec is not None
            middle = {part: statistics.median(values) for part, values in rows[wanted].items()}
            lines.append(
                f"| {name} | {wanted} | {len(spec.features)} | {middle['features']:.2f} | "
                f"{middle['trees']:.2f} | {middle['whole']:.2f} |"
            )
    if arguments.prepare:
        return
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    head = (__doc__ or "").split("\n\n", 2)[2].strip()
    machine = f"{os.cpu_count()} vCPU {model}, Python {platform.python_version()}"
    text = "\n".join(
        [
            "# Point-in-time features in a request",
            "",
            head,
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {machine}; {arguments.rounds} rounds of "
            f"{arguments.requests} requests. {arguments.note}",
            "",
            *lines,
            "",
        ]
    )
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
