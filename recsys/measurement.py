"""Runs systems over a task, block by block of cases, and keeps one value a case and metric.

A case is a user; where a split asks for prefixes a user has several cases, next to each other, and
intervals and tests draw users, all their cases with them.

Lists and values go to Parquet as they come; memory does not grow with users x items.
"""

import logging
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from features.store import Dataset
from offline_eval.answers import Answer
from offline_eval.beyond_accuracy import ItemCounts
from offline_eval.cuts import (
    Cut,
    by_history_length,
    by_popularity,
    by_support,
    by_training,
    by_view,
    by_warmth,
    cut_block,
    cut_values,
)
from offline_eval.exposure import (
    gini,
    intra_list_diversity,
    novelty,
    popular_lists,
    popularity_bias,
    serendipity,
)
from offline_eval.hits import find_hits, find_targets
from offline_eval.item_vectors import category_vectors
from offline_eval.metrics import Bools, Floats
from offline_eval.pairs import compare_pairs, significance_letters
from offline_eval.records import (
    PER_USER_FILE,
    PREDICTIONS_FILE,
    BlockWriter,
    prediction_rows,
    user_rows,
)
from offline_eval.report import Comparison, CutEstimate, System, TwoStages
from offline_eval.significance import Estimate, estimate_means, per_owner, single_figure
from offline_eval.task import Task, flat_rows
from offline_eval.two_stage import count_fates, measure_candidates
from recsys.contestants import Contestant
from serving.recommender import Recommender

log = logging.getLogger(__name__)

BLOCK_CELLS = 1 << 24
"""Case x item pairs held at once: 64 MB of scores."""
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

    extra_cuts: Sequence[Cut] = ()
    """Beside those that every report has: users by a column of theirs."""

    def __post_init__(self) -> None:
        self.systems: list[System] = []
        self.cuts: list[CutEstimate] = []
        training = self.data.training_histories()
        _, rows = flat_rows(training.starts, training.ends)
        num_items = self.data.schema.num_items
        self._events_V = np.bincount(training.items[rows], minlength=num_items + 1)
        trained = self.data.cuts["train_end"] > self.data.cuts["start"]
        self._cuts = [
            by_warmth(self.task, self._events_V),
            by_training(self.task, trained[self.task.users]),
            by_history_length(self.task),
            by_popularity(self.task, self._events_V),
            by_support(self.task, self._events_V),
            by_view(self.task, self._events_V),
            *self.extra_cuts,
        ]
        self._vectors = category_vectors(self.data)
        self._main: dict[str, Floats] = {}
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
            answer = contestant.answer(block)
            top = answer.lists[:, : self.main_k]
            values = answer.values() | self._shown_values(top, block)
            parts.append(values)
            user_ids = self._user_ids.slice(start, len(block))
            hits = find_hits(answer.lists, block.truth)
            rows = prediction_rows(contestant.name, user_ids, self._item_ids, answer.lists, hits)
            predictions.write(rows)
            facts = {
                "history_length": block.histories.lengths,
                "num_targets": block.truth.num_relevant,
            }
            users.write(user_rows(contestant.name, user_ids, facts, values))
            for k, counts in shown.items():
                counts.add(answer.lists[:, :k])
            cut_parts.append(self._cut_values(answer, start, start + len(block)))
            listed.append(find_targets(top, block.truth))
            start += len(block)
            advance(len(block))
        self._keep(contestant, _joined(parts), _joined(cut_parts), shown)
        self._listed.append(np.concatenate(listed))

    def _shown_values(self, top: NDArray[np.int64], block: Task) -> dict[str, Floats]:
        """What is shown, right or not, and how much of what is right is a surprise."""
        k = self.main_k
        values = {
            f"novelty@{k}": novelty(top, self._events_V),
            f"popularity@{k}": popularity_bias(top, self._events_V),
        }
        if self._vectors is not None:
            values[f"diversity@{k}"] = intra_list_diversity(top, self._vectors)
        obvious = popular_lists(self._events_V, block.candidates(), k)
        hits = find_hits(top, block.truth)
        values[f"serendipity@{k}"] = serendipity(hits, top, obvious)
        return values

    def _keep(
        self,
        contestant: Contestant,
        values: dict[str, Floats],
        cut_values: dict[tuple[str, ...], Floats],
        shown: Mapping[int, ItemCounts],
    ) -> None:
        estimates = self._estimates(values)
        estimates |= {f"coverage@{k}": counts.coverage() for k, counts in shown.items()}
        estimates[f"gini@{self.main_k}"] = single_figure(gini(shown[self.main_k].counts_V))
        self.systems.append(System(name=contestant.name, kind=contestant.kind, estimates=estimates))
        targets = {(cut.name, *one): n for cut in self._cuts for *one, n in cut.targets.items()}
        self.cuts += [
            CutEstimate(
                cut=cut,
                group=group,
                system=contestant.name,
                metric=name,
                estimate=found,
                targets=targets[cut, group],
            )
            for (cut, group, name), found in self._estimates(cut_values).items()
        ]
        main = values[f"{MAIN_METRIC}@{self.main_k}"]
        self._main[contestant.name] = per_owner(main, self.task.users)

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

    def _cut_values(self, answer: Answer, start: int, stop: int) -> dict[tuple[str, ...], Floats]:
        return {
            (cut.name, *key): values
            for cut in self._cuts
            for key, values in cut_values(
                answer, cut_block(cut, self.task.truth, start, stop), self.main_k
            ).items()
        }

    def _estimates(self, values: Mapping[Name, Floats]) -> dict[Name, Estimate]:
        table_UM = np.stack(list(values.values()), axis=1)
        means = estimate_means(
            table_UM, resamples=self.resamples, seed=self.seed, owners_U=self.task.users
        )
        return dict(zip(values, means, strict=True))

    def comparisons(self) -> list[Comparison]:
        """The bundle against the best baseline, recent popularity, and itself without ranker."""
        metric = f"{MAIN_METRIC}@{self.main_k}"
        baselines = [system for system in self.systems if system.kind == "baseline"]
        baselines.sort(key=lambda system: system.estimates[metric].value, reverse=True)
        rivals = [system.name for system in baselines[:1]]
        rivals += [s.name for s in self.systems if s.name == RECENT or s.kind == "stage"]
        first = self.systems[0].name
        pairs = [(first, rival) for rival in dict.fromkeys(rivals)]
        return compare_pairs(self._main, pairs, metric, resamples=self.resamples, seed=self.seed)

    def lettered(self) -> list[System]:
        """The systems with their significance letters on the main metric."""
        letters = significance_letters(self._main, seed=self.seed)
        return [replace(system, letters=letters[system.name]) for system in self.systems]


def _joined(parts: Sequence[Mapping[Name, Floats]]) -> dict[Name, Floats]:
    """The values of all blocks, one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
