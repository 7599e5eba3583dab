"""Where each task of a run was best, and what the common stop costs it.

All tasks share their weights, so a run keeps those of one step: the best mean AUC. A task that is
best much earlier is overfitted by then, one that is best later is not done.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError

METRICS = "metrics.jsonl"
AUC = "auc."


@dataclass(frozen=True, slots=True)
class TaskStop:
    """One task of a run."""

    task: str
    best_step: int
    best: float
    """Its greatest validation AUC, at that step."""
    kept: float
    """Its AUC at the step that was kept."""
    kept_step: int
    last: float
    """Its AUC at the last validation."""

    @property
    def lost(self) -> float:
        """AUC that the common stop costs the task."""
        return self.best - self.kept


def read_metrics(run: Path) -> list[dict[str, float]]:
    """One record a validation. Raises InputError where there is none."""
    path = run / METRICS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): expected a run made by `recsys train`"
        ) from error


def task_stops(run: Path) -> list[TaskStop]:
    """Of every task, in their order. Raises InputError for a run of one task."""
    records = read_metrics(run)
    names = [
        key.removeprefix(AUC) for key in (records[0] if records else {}) if key.startswith(AUC)
    ]
    if not names:
        raise InputError(
            f"{run} has no tasks apart: train dtrn or multi_task with several [train.ranking] tasks"
        )
    kept = max(records, key=lambda record: (record["auc"], -record["step"]))
    found = []
    for name in names:
        key = AUC + name
        best = max(records, key=lambda record: (record[key], -record["step"]))
        found.append(
            TaskStop(
                name,
                int(best["step"]),
                best[key],
                kept[key],
                int(kept["step"]),
                records[-1][key],
            )
        )
    return found
