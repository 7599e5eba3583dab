"""Measures anybody's recommendation lists, from a Parquet file, by the protocol of bundles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import InputError
from features.layout import CATALOGUE, Split
from features.stage import file_sha256, write_stage
from features.store import Dataset
from offline_eval.answers import Answer, ListAnswer
from offline_eval.leakage import lint_dataset
from offline_eval.lists_file import read_lists
from offline_eval.markdown import markdown
from offline_eval.page import page
from offline_eval.report import METRICS_FILE, Report
from offline_eval.table import print_report
from offline_eval.task import Task
from recsys.baselines import BASELINES
from recsys.contestants import Contestant, baseline_contestants, depth
from recsys.evaluate import (
    MAIN_K,
    check_request,
    examples,
    named,
    protocol,
    reading_notes,
    user_cuts,
)
from recsys.measurement import Measurement


def evaluate_lists(  # noqa: PLR0913 (each is a part of the protocol, or says where things lie)
    path: Path,
    dataset: Path,
    out: Path,
    *,
    split: Split = "test",
    ks: Sequence[int] = (1, 5, 10, 20),
    baselines: Sequence[str] = tuple(BASELINES),
    resamples: int = 1_000,
    seed: int = 0,
    exclude_seen: bool = True,
    users: Path | None = None,
    user_columns: Sequence[str] = (),
) -> Report:
    """Write a `report/` about the lists in `path` (`offline_eval.lists_file`), and return it.

    exclude_seen: nobody may list items of the history; lists that do are refused and counted.
    Raises InputError for bad lists, naming the first offenders.
    """
    check_request(ks, baselines)
    data = Dataset.open(dataset)
    task = Task.of(data, split, exclude_seen=exclude_seen)
    if len(np.unique(task.users)) < len(task):
        raise InputError(
            f"{dataset} asks for every prefix of a history ({len(task):,} cases), and a file of "
            "lists has one list a user: build the dataset with another split"
        )
    extra = user_cuts(users, user_columns, data, task)
    ks = tuple(sorted(set(ks)))
    main_k = MAIN_K if MAIN_K in ks else ks[-1]
    deepest = max(depth(data.schema.num_items, ks), *ks)
    user_ids = data.vocabulary("user").take(pa.array(task.users))
    lists = read_lists(path, user_ids, data.vocabulary("item"), depth=deepest, seed=seed)
    config = {"split": split, "ks": ks, "baselines": list(baselines), "resamples": resamples}
    config |= {"seed": seed, "lists": file_sha256(path)}
    with write_stage(out, kind="report", config=config, parent=data.manifest.sha256) as directory:
        measurement = Measurement(data, task, ks, main_k, resamples, seed, extra)
        others = baseline_contestants(data, baselines, ks, seed)
        ours = Contestant(path.stem, "bundle", _answers(lists, task, ks))
        measurement.run(iter([ours, *others]), 1 + len(baselines), directory)
        longest = int(np.count_nonzero(lists, axis=1).max())
        report = Report(
            title=f"Lists {path.stem}, {split} split of {named(dataset)}",
            protocol=protocol(data, task, split, ks),
            counts=task.counts(data.schema.num_warm_items),
            systems=measurement.lettered(),
            comparisons=measurement.comparisons(),
            notes=[
                *map(str, lint_dataset(data, task, split)),
                f"the lists hold at most {longest:,} items; in AUC the others count as tied below.",
                *reading_notes(task, ks),
            ],
            ks=ks,
            main_k=main_k,
            ceiling={},
            cuts=measurement.cuts,
            examples=examples(data, task, lambda cases: lists[cases, :main_k], titles(data)),
            two_stages=[],
        )
        (directory / METRICS_FILE).write_text(report.to_json())
        (directory / "report.md").write_text(markdown(report))
        (directory / "report.html").write_text(page(report))
    print_report(report)
    return report


def _answers(lists: NDArray[np.int64], task: Task, ks: Sequence[int]) -> Callable[[Task], Answer]:
    """Answers a block of the task by its users' rows."""

    def answer(block: Task) -> Answer:
        rows = np.searchsorted(task.users, block.users)
        return ListAnswer.of(lists[rows], block.truth, block.candidates(), ks)

    return answer


def titles(data: Dataset) -> Callable[[Any], str | None]:
    """The title of a raw item id, where the catalogue has titles."""
    catalogue = pl.read_parquet(data.path / CATALOGUE)
    if "title" not in catalogue.columns:
        return lambda _: None
    known = dict(zip(catalogue["item_id"].to_list(), catalogue["title"].to_list(), strict=True))
    return known.get
