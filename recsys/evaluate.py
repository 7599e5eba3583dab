"""Measures a bundle the way it serves, beside the baselines, over one split of a dataset.

Every system answers the same cases from the same candidates, block by block of users, so memory
does not grow with users x items. What is kept is one value a user, metric and system.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from features.errors import InputError
from features.layout import EVENTS, USERS, Split, vocabulary_file
from features.stage import write_stage
from features.store import Dataset
from offline_eval.beyond_accuracy import ItemCounts
from offline_eval.fingerprint import METRICS_VERSION
from offline_eval.hits import find_hits
from offline_eval.markdown import markdown
from offline_eval.page import page
from offline_eval.records import (
    PER_USER_FILE,
    PREDICTIONS_FILE,
    BlockWriter,
    prediction_rows,
    user_rows,
)
from offline_eval.report import METRICS_FILE, Comparison, Report, System
from offline_eval.significance import estimate_means, paired_difference
from offline_eval.table import print_report
from offline_eval.task import Task
from recsys.baselines import BASELINES
from recsys.contestants import Contestant, baseline_contestants, bundle_contestants, depth
from serving.recommender import Recommender

log = logging.getLogger(__name__)

BLOCK_CELLS = 1 << 22
"""Case x item pairs held at once."""
MAIN_K = 10
MAIN_METRIC = "ndcg"
RECENT = "recent-popularity"


def evaluate(  # noqa: PLR0913 (each is a part of the protocol, or says where things lie)
    bundle: Path,
    dataset: Path,
    out: Path,
    *,
    split: Split = "test",
    ks: Sequence[int] = (1, 5, 10, 20),
    baselines: Sequence[str] = tuple(BASELINES),
    resamples: int = 1_000,
    seed: int = 0,
    ceiling: Mapping[str, Any] | None = None,
) -> Report:
    """Write a `report/`, print its table and return it.

    Raises InputError, and serving's errors for a bad bundle. ceiling: content of a synthetic
    shop's ceiling.json, the best that any model can reach there.
    """
    check_request(ks, baselines)
    data = Dataset.open(dataset)
    recommender = Recommender.load(bundle, threads=os.cpu_count() or 1)
    notes = check_same_items(recommender, data)
    task = Task.of(data, split, exclude_seen=recommender.manifest.policy.exclude_seen)
    best, ceiling_notes = reachable_best(ceiling, data, task, split)
    ks = tuple(sorted(set(ks)))
    main_k = MAIN_K if MAIN_K in ks else ks[-1]
    config = {"split": split, "ks": ks, "baselines": list(baselines)}
    config |= {"resamples": resamples, "seed": seed, "bundle": recommender.bundle_version}
    with write_stage(out, kind="report", config=config, parent=data.manifest.sha256) as directory:
        measurement = Measurement(data, task, ks, resamples, seed)
        contestants = chain(
            bundle_contestants(recommender, ks), baseline_contestants(data, baselines, ks, seed)
        )
        total = 1 + (recommender.pipeline.ranker is not None) + len(baselines)
        measurement.run(contestants, total, directory)
        report = Report(
            title=f"Bundle {recommender.bundle_version[:12]}, {split} split of {named(dataset)}",
            protocol=protocol(data, task, split, ks),
            counts=task.counts(data.schema.num_warm_items),
            systems=measurement.systems,
            comparisons=measurement.comparisons(f"{MAIN_METRIC}@{main_k}"),
            notes=[*notes, *ceiling_notes, *reading_notes(task, ks)],
            ks=ks,
            main_k=main_k,
            ceiling=best,
        )
        (directory / METRICS_FILE).write_text(report.to_json())
        (directory / "report.md").write_text(markdown(report))
        (directory / "report.html").write_text(page(report))
    print_report(report)
    return report


def named(directory: Path) -> str:
    """The last two parts of a path: stage directories are often all called alike.

    >>> named(Path("/work/movielens-1m/dataset"))
    'movielens-1m/dataset'
    """
    return "/".join(directory.resolve().parts[-2:]).removeprefix("/")


def check_request(ks: Sequence[int], baselines: Sequence[str]) -> None:
    """Raise InputError for cut-offs below 1 or unknown baselines."""
    if not ks or min(ks) < 1:
        raise InputError(f"ks={list(ks)}: give at least one cut-off, each of 1 item or more")
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise InputError(f"unknown baselines {unknown}: choose from {list(BASELINES)}")


def check_same_items(recommender: Recommender, data: Dataset) -> list[str]:
    """Raise InputError unless bundle and dataset mean the same items by the same dense ids.

    Returns a note where the bundle was made from another dataset with the same items.
    """
    name = vocabulary_file("item")
    theirs, ours = recommender.manifest.files[name].sha256, data.manifest.files[name]
    if theirs != ours:
        raise InputError(
            f"the bundle knows other items than {data.path} (sha256 of {name}: {theirs[:12]} and "
            f"{ours[:12]}): evaluate with the dataset it was exported from, or export it again"
        )
    if recommender.manifest.dataset == data.manifest.sha256:
        return []
    return [
        "the bundle was made from another dataset with the same items. If that had another split, "
        "the model may have been trained on the events it is tested on here."
    ]


def reachable_best(
    ceiling: Mapping[str, Any] | None, data: Dataset, task: Task, split: Split
) -> tuple[dict[str, float], list[str]]:
    """Best reachable values by metric name, and a note where they are for another protocol."""
    if ceiling is None:
        return {}, []
    ours = {
        "events": list(data.schema.target_events),
        "split": data.schema.split.get("name"),
        "excluded": task.exclude_seen,
        "part": split,
    }
    theirs = {
        "events": ceiling["protocol"]["events"],
        "split": ceiling["protocol"]["split"].partition(":")[0],
        "excluded": True,
        "part": "test",
    }
    if ours != theirs:
        return {}, [f"the known ceiling is left out: it is for {theirs}, this is {ours}."]
    best = ceiling["all"]
    return {"hit_rate@10": best["realised_hr@10"], "ndcg@10": best["realised_ndcg@10"]}, []


def protocol(data: Dataset, task: Task, split: Split, ks: Sequence[int]) -> dict[str, Any]:
    """Everything that must agree before two numbers may be compared."""
    files = data.manifest.files
    schema = data.schema
    complete = depth(schema.num_items, ks) == schema.num_items
    return {
        "events": files[EVENTS],
        "users": files[USERS],
        "items": files[vocabulary_file("item")],
        "split": split,
        "cut": dict(schema.split),
        "targets": list(schema.target_events),
        "cold targets": schema.cold_targets,
        "candidates": "all items minus seen" if task.exclude_seen else "all items",
        "moment": "the case's first target",
        "ks": list(ks),
        "order for AUC": "complete" if complete else f"first {depth(schema.num_items, ks)}",
        "ties": "bundle: as served; baselines: expected value over random orders",
        "metric definitions": METRICS_VERSION,
    }


def reading_notes(task: Task, ks: Sequence[int]) -> list[str]:
    """What a reader must know to read the numbers right."""
    notes = []
    reachable = task.candidates().hold(task.truth.users, task.truth.items)
    if unreachable := int(np.count_nonzero(~reachable)):
        share = unreachable / len(reachable)
        notes.append(
            f"{unreachable:,} targets ({share:.1%}) were seen before and seen items are excluded: "
            "they are misses of every system in the metrics at k, and no part of AUC."
        )
    if (listed := depth(task.num_items, ks)) < task.num_items:
        notes.append(
            f"the bundle's lists hold {listed:,} of {task.num_items:,} items; in AUC the others "
            "count as tied below them."
        )
    return notes


@dataclass
class Measurement:
    """Measures systems one after the other; keeps estimates, and the values it compares."""

    data: Dataset
    task: Task
    ks: tuple[int, ...]
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        self.systems: list[System] = []
        self._values: list[Mapping[str, NDArray[np.float64]]] = []
        self._item_ids = self.data.vocabulary("item")
        self._user_ids = self.data.vocabulary("user").take(pa.array(self.task.users))
        self._block = max(BLOCK_CELLS // (self.data.schema.num_items + 1), 1)

    def run(self, contestants: Iterator[Contestant], total: int, directory: Path) -> None:
        """Measure `total` systems, writing their lists and values per user into `directory`."""
        console = Console(stderr=True)
        with (
            BlockWriter(directory / PREDICTIONS_FILE) as predictions,
            BlockWriter(directory / PER_USER_FILE) as users,
            Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as progress,
        ):
            bar = progress.add_task("evaluate", total=total * len(self.task))
            for contestant in contestants:
                progress.update(bar, description=f"evaluate {contestant.name}")
                self._measure(contestant, predictions, users, lambda n: progress.advance(bar, n))
                log.info("measured %s over %d cases", contestant.name, len(self.task))

    def _measure(
        self,
        contestant: Contestant,
        predictions: BlockWriter,
        users: BlockWriter,
        advance: Callable[[int], None],
    ) -> None:
        shown = {k: ItemCounts(self.data.schema.num_items) for k in self.ks}
        parts: list[dict[str, NDArray[np.float64]]] = []
        start = 0
        for block in self.task.blocks(self._block):
            values, lists = contestant.answer(block)
            parts.append(values)
            user_ids = self._user_ids.slice(start, len(block))
            hits = find_hits(lists, block.truth)
            rows = prediction_rows(contestant.name, user_ids, self._item_ids, lists, hits)
            predictions.write(rows)
            facts = {
                "history_length": block.histories.lengths,
                "num_targets": block.truth.num_relevant,
            }
            users.write(user_rows(contestant.name, user_ids, facts, values))
            for k, counts in shown.items():
                counts.add(lists[:, :k])
            start += len(block)
            advance(len(block))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        means = estimate_means(
            np.stack(list(values.values()), axis=1), resamples=self.resamples, seed=self.seed
        )
        estimates = dict(zip(values, means, strict=True))
        estimates |= {f"coverage@{k}": counts.coverage() for k, counts in shown.items()}
        self.systems.append(System(name=contestant.name, kind=contestant.kind, estimates=estimates))
        self._values.append(values)

    def comparisons(self, metric: str) -> list[Comparison]:
        """The bundle against the best baseline, recent popularity, and itself without ranker."""
        baselines = [system for system in self.systems if system.kind == "baseline"]
        baselines.sort(key=lambda system: system.estimates[metric].value, reverse=True)
        rivals = [system.name for system in baselines[:1]]
        rivals += [s.name for s in self.systems if s.name == RECENT or s.kind == "stage"]
        ours = self._values[0][metric]
        names = [system.name for system in self.systems]
        return [
            Comparison(
                first=names[0],
                second=rival,
                metric=metric,
                difference=paired_difference(
                    ours,
                    self._values[names.index(rival)][metric],
                    resamples=self.resamples,
                    seed=self.seed,
                ),
            )
            for rival in dict.fromkeys(rivals)
        ]
