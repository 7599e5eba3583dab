"""Runs systems over a task, block by block of users, and keeps one value a user and metric.

Lists and values go to Parquet as they come; memory does not grow with users x items.
"""

import logging
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from features.store import Dataset
from offline_eval.beyond_accuracy import ItemCounts
from offline_eval.cuts import by_history_length, by_popularity, cut_block, cut_values
from offline_eval.exposure import gini, novelty, popularity_bias
from offline_eval.hits import find_hits, find_targets
from offline_eval.metrics import Bools, Floats
from offline_eval.records import (
    PER_USER_FILE,
    PREDICTIONS_FILE,
    BlockWriter,
    prediction_rows,
    user_rows,
)
from offline_eval.report import Comparison, CutEstimate, System, TwoStages
from offline_eval.significance import (
    Estimate,
    estimate_means,
    paired_difference,
    single_figure,
)
from offline_eval.task import Task, flat_rows
from offline_eval.two_stage import count_fates, measure_candidates
from recsys.contestants import Contestant
from serving.recommender import Recommender

log = logging.getLogger(__name__)

BLOCK_CELLS = 1 << 22
"""Case x item pairs held at once."""
RECENT = "recent_popularity"
MAIN_METRIC = "ndcg"
"""What systems are compared by."""
Name = TypeVar("Name", bound=Hashable)


@dataclass
class Measurement:
    """Measures systems one after the other; keeps estimates, and the values it compares."""

    data: Dataset
    task: Task
    ks: tuple[int, ...]
    main_k: int
    """Cut-off of the comparisons and cuts."""
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        self.systems: list[System] = []
        self.cuts: list[CutEstimate] = []
        training = self.data.training_histories()
        _, rows = flat_rows(training.starts, training.ends)
        num_items = self.data.schema.num_items
        self._events_V = np.bincount(training.items[rows], minlength=num_items + 1)
        self._cuts = [by_history_length(self.task), by_popularity(self.task, self._events_V)]
        self._main: list[Floats] = []
        self._listed: list[Bools] = []
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
        parts: list[dict[str, Floats]] = []
        cut_parts: list[dict[tuple[str, ...], Floats]] = []
        listed: list[Bools] = []
        start = 0
        for block in self.task.blocks(self._block):
            values, lists = contestant.answer(block)
            top = lists[:, : self.main_k]
            values[f"novelty@{self.main_k}"] = novelty(top, self._events_V)
            values[f"popularity@{self.main_k}"] = popularity_bias(top, self._events_V)
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
            cut_parts.append(self._cut_values(lists, block, start))
            listed.append(find_targets(top, block.truth))
            start += len(block)
            advance(len(block))
        values = _joined(parts)
        estimates = self._estimates(values)
        estimates |= {f"coverage@{k}": counts.coverage() for k, counts in shown.items()}
        estimates[f"gini@{self.main_k}"] = single_figure(gini(shown[self.main_k].counts_V))
        self.systems.append(System(name=contestant.name, kind=contestant.kind, estimates=estimates))
        self.cuts += [
            CutEstimate(cut=cut, group=group, system=contestant.name, metric=name, estimate=found)
            for (cut, group, name), found in self._estimates(_joined(cut_parts)).items()
        ]
        self._main.append(values[f"{MAIN_METRIC}@{self.main_k}"])
        self._listed.append(np.concatenate(listed))

    def two_stages(self, recommender: Recommender) -> TwoStages:
        """What the candidates of a bundle with a ranker allow; it must be the first system."""
        parts = [
            measure_candidates(
                found.items,
                {name: ~np.isnan(scores) for name, scores in found.source_scores.items()},
                block.truth,
                self.main_k,
            )
            for block in self.task.blocks(self._block)
            for found in [recommender.candidates(block.histories, at=block.at)]
        ]
        recalls = self._estimates(_joined([part.recalls for part in parts]))
        oracle = self._estimates(_joined([{"oracle": part.oracle_ndcg} for part in parts]))
        truth = self.task.truth
        fates = count_fates(
            self.task.candidates().hold(truth.users, truth.items),
            np.concatenate([part.is_found for part in parts]),
            self._listed[0],
        )
        return TwoStages(recalls=recalls, oracle=oracle["oracle"], fates=fates)

    def _cut_values(
        self, lists: NDArray[np.int64], block: Task, start: int
    ) -> dict[tuple[str, ...], Floats]:
        k = self.main_k
        return {
            (cut.name, group, f"{name}@{k}"): values
            for cut in self._cuts
            for (group, name), values in cut_values(
                lists[:, :k],
                block.truth,
                cut_block(cut, self.task.truth, start, start + len(block)),
            ).items()
        }

    def _estimates(self, values: Mapping[Name, Floats]) -> dict[Name, Estimate]:
        table_UM = np.stack(list(values.values()), axis=1)
        means = estimate_means(table_UM, resamples=self.resamples, seed=self.seed)
        return dict(zip(values, means, strict=True))

    def comparisons(self) -> list[Comparison]:
        """The bundle against the best baseline, recent popularity, and itself without ranker."""
        metric = f"{MAIN_METRIC}@{self.main_k}"
        baselines = [system for system in self.systems if system.kind == "baseline"]
        baselines.sort(key=lambda system: system.estimates[metric].value, reverse=True)
        rivals = [system.name for system in baselines[:1]]
        rivals += [s.name for s in self.systems if s.name == RECENT or s.kind == "stage"]
        names = [system.name for system in self.systems]
        return [
            Comparison(
                first=names[0],
                second=rival,
                metric=metric,
                difference=paired_difference(
                    self._main[0],
                    self._main[names.index(rival)],
                    resamples=self.resamples,
                    seed=self.seed,
                ),
            )
            for rival in dict.fromkeys(rivals)
        ]


def _joined(parts: Sequence[Mapping[Name, Floats]]) -> dict[Name, Floats]:
    """The values of all blocks, one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
