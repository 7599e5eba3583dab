"""Measures a bundle the way it serves, beside the baselines, over one split of a dataset.

Every system answers the same cases from the same candidates; the protocol is printed with the
numbers.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import InputError
from features.layout import EVENTS, USERS, Split, vocabulary_file
from features.stage import write_stage
from features.store import Dataset
from offline_eval.cuts import Cut
from offline_eval.fingerprint import METRICS_VERSION
from offline_eval.hits import Truth, find_hits
from offline_eval.leakage import Finding, lint_dataset, lint_features
from offline_eval.learning import read_curves
from offline_eval.markdown import markdown
from offline_eval.page import page
from offline_eval.report import METRICS_FILE, Example, Report
from offline_eval.table import print_report
from offline_eval.task import Task
from offline_eval.user_groups import column_cuts
from recsys.baselines import BASELINES
from recsys.contestants import baseline_contestants, bundle_contestants, depth
from recsys.measurement import Measurement
from serving.policy import Policy
from serving.recommender import Recommender

MAIN_K = 10
EXAMPLES = 60
"""Cases shown one by one in a report."""
LINTED = 300
"""Cases whose candidates are looked at for leaks."""
HISTORY_SHOWN = 10
"""Most recent events, and targets, shown of each."""


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
    users: Path | None = None,
    user_columns: Sequence[str] = (),
    run: Path | None = None,
) -> Report:
    """Write a `report/`, print its table and return it.

    Raises InputError, and serving's errors for a bad bundle. ceiling: content of a synthetic
    shop's ceiling.json, the best that any model can reach there. users: a Parquet with a row a
    user_id, whose `user_columns` become cuts. run: the training run, for its learning curves.
    """
    check_request(ks, baselines)
    data = Dataset.open(dataset)
    recommender = Recommender.load(bundle, threads=os.cpu_count() or 1)
    notes = check_same_items(recommender, data)
    task = Task.of(data, split, exclude_seen=recommender.manifest.policy.exclude_seen)
    extra = user_cuts(users, user_columns, data, task)
    best, ceiling_notes = reachable_best(ceiling, data, task, split)
    leaks = [
        str(one) for one in [*lint_dataset(data, task, split), *lint_sources(recommender, task)]
    ]
    ks = tuple(sorted(set(ks)))
    main_k = MAIN_K if MAIN_K in ks else ks[-1]
    policy = Policy(task.exclude_seen)

    def served(cases: NDArray[np.int64]) -> NDArray[np.integer]:
        asked = task.histories.take(cases)
        k = min(main_k, task.num_items)
        return recommender.rank(asked, k=k, at=task.at[cases], policy=policy).items

    config = {"split": split, "ks": ks, "baselines": list(baselines)}
    config |= {"resamples": resamples, "seed": seed, "bundle": recommender.bundle_version}
    with write_stage(out, kind="report", config=config, parent=data.manifest.sha256) as directory:
        measurement = Measurement(data, task, ks, main_k, resamples, seed, extra)
        contestants = chain(
            bundle_contestants(recommender, ks), baseline_contestants(data, baselines, ks, seed)
        )
        has_ranker = recommender.pipeline.ranker is not None
        measurement.run(contestants, 1 + has_ranker + len(baselines), directory)
        report = Report(
            title=f"Bundle {recommender.bundle_version[:12]}, {split} split of {named(dataset)}",
            protocol=protocol(data, task, split, ks),
            counts=task.counts(data.schema.num_warm_items),
            systems=measurement.lettered(),
            comparisons=measurement.comparisons(),
            notes=[*leaks, *notes, *ceiling_notes, *reading_notes(task, ks)],
            ks=ks,
            main_k=main_k,
            ceiling=best,
            cuts=measurement.cuts,
            examples=examples(data, task, served, recommender.title),
            learning=read_curves(run) if run is not None else {},
            two_stages=[measurement.two_stages(recommender)] if has_ranker else [],
        )
        (directory / METRICS_FILE).write_text(report.to_json())
        (directory / "report.md").write_text(markdown(report))
        (directory / "report.html").write_text(page(report))
    print_report(report)
    return report


def named(directory: Path) -> str:
    """The last two parts of a path: stage directories are often all called alike.

    >>> named(Path("/srv/movielens-1m/dataset"))
    'movielens-1m/dataset'
    """
    return "/".join(directory.resolve().parts[-2:]).removeprefix("/")


def examples(
    data: Dataset,
    task: Task,
    lists_of: Callable[[NDArray[np.int64]], NDArray[np.integer]],
    title: Callable[[Any], str | None],
) -> list[Example]:
    """A few cases as a person would look at them, evenly spread over the users.

    lists_of: dense item ids for the given cases, padded with 0. title: of a raw item id.
    """
    cases = np.unique(np.linspace(0, len(task) - 1, EXAMPLES).astype(np.int64))
    histories = task.histories.take(cases)
    lists = lists_of(cases)
    raw_items = data.vocabulary("item")
    user_ids = data.vocabulary("user").take(pa.array(task.users[cases])).to_pylist()

    def named_items(items: NDArray[np.integer]) -> tuple[str, ...]:
        raw_ids = raw_items.take(pa.array(items.astype(np.int64) - 1)).to_pylist()
        return tuple(title(raw) or str(raw) for raw in raw_ids)

    found = []
    for row, case in enumerate(cases):
        history = histories.items[histories.starts[row] : histories.ends[row]]
        targets = task.truth.block(case, case + 1).items
        listed = lists[row][lists[row] > 0]
        found.append(
            Example(
                user=str(user_ids[row]),
                history=named_items(history[-HISTORY_SHOWN:]),
                history_length=len(history),
                listed=named_items(listed),
                hits=tuple(np.isin(listed, targets).tolist()),
                targets=named_items(targets[:HISTORY_SHOWN]),
            )
        )
    return found


def user_cuts(users: Path | None, columns: Sequence[str], data: Dataset, task: Task) -> list[Cut]:
    """Cuts by columns of the users' table; raises InputError for columns without a table."""
    if not columns:
        return []
    if users is None:
        raise InputError(f"cuts by {list(columns)} need the table of users: give --users FILE")
    user_ids = data.vocabulary("user").take(pa.array(task.users))
    return column_cuts(users, columns, user_ids, task)


def lint_sources(recommender: Recommender, task: Task) -> list[Finding]:
    """Whether any source's score alone tells the targets among the candidates of a few cases."""
    if recommender.pipeline.ranker is None:
        return []  # one order of one source is what is measured
    few = np.unique(np.linspace(0, len(task) - 1, LINTED).astype(np.int64))
    found = recommender.candidates(task.histories.take(few), at=task.at[few])
    truth = task.truth
    kept = np.isin(truth.users, few)
    users = np.searchsorted(few, truth.users[kept])
    hits = find_hits(found.items, Truth.of(users, truth.items[kept], len(few)))
    real = found.items > 0
    scores = {name: values[real] for name, values in found.source_scores.items()}
    return lint_features(hits[real], {n: v.astype(np.float64) for n, v in scores.items()})


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
