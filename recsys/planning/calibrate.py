"""Measures this machine: small trials that differ in one thing each, and the prices they give."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from features.errors import InputError
from recsys.planning.costs import Costs, Trial, fit
from recsys.planning.trial import measure, run_trial, score_command
from recsys.planning.workload import STAGES, Workload

Say = Callable[[str], None]


def grid(scale: float = 1.0) -> list[Workload]:
    """Workloads around a small one, `scale` times 4,000 users and items; each isolates a price."""

    def times(count: int) -> int:
        return max(round(scale * count), 1)

    base = Workload(users=times(4_000), items=times(4_000), history=40, epochs=2)
    many = replace(base, users=times(16_000))
    small_steps = replace(base, users=times(8_000), batch_size=16, epochs=1)
    return [
        base,
        many,
        replace(many, items=times(30_000)),
        replace(base, history=120),
        replace(base, users=times(12_000), items=times(70_000), history=60),
        replace(base, users=times(8_000), negatives=0),
        replace(base, dim=128, items=times(12_000)),
        replace(base, users=times(8_000), candidates=200),
        replace(base, candidates=400, k=20),
        small_steps,
        replace(small_steps, items=times(30_000)),
    ]


def calibrate(folder: Path, scale: float, say: Say) -> Costs:
    """Run the trials one after the other below `folder`, which is emptied between them.

    Takes some ten minutes at scale 1 on a core that has nothing else to do. Raises InputError
    where a stage fails or `folder` holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: give a folder that the trials may fill")
    trials: list[Trial] = []
    workloads = grid(scale)
    parallel = 1.0
    for number, workload in enumerate(workloads):
        say(f"trial {number + 1} of {len(workloads)}: {describe(workload)}")
        here = folder / "trial"
        try:
            trials.append(run_trial(workload, here, say))
            if number == 1:  # the one with the most users
                parallel = measure_parallel(here, trials[-1], trials[0])
                say(f"with every core at work one does {parallel:.2f} of what it does alone")
        finally:
            shutil.rmtree(here, ignore_errors=True)
    return fit(trials, machine(), f"{datetime.now(UTC):%Y-%m-%d}", parallel)


def measure_parallel(folder: Path, trial: Trial, smaller: Trial) -> float:
    """Processor time of a user with one process against that with a process a core."""
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        return 1.0
    workload = trial.workload
    alone, less = trial.used["score"].cpu_seconds, smaller.used["score"].cpu_seconds
    users, fewer = workload.users, smaller.workload.users
    start = max(less - fewer * (alone - less) / (users - fewer), 0.0)
    together = measure(score_command(folder, workload, cores)).cpu_seconds - cores * start
    return float(min(max((alone - start) / max(together, 1e-9), 0.1), 1.0))


def describe(workload: Workload) -> str:
    """One line of sizes."""
    ranker = f", {workload.candidates} ranked" if workload.candidates else ""
    loss = f"{workload.negatives} negatives" if workload.negatives else "full softmax"
    return (
        f"{workload.users:,} users, {workload.items:,} items, {workload.history:g} events a user, "
        f"width {workload.dim}, {workload.epochs} epochs, {loss}{ranker}"
    )


def errors(costs: Costs, trial: Trial) -> dict[str, tuple[float, float]]:
    """Predicted over measured, of processor time and of peak memory, by stage."""
    bill = costs.bill(trial.workload)
    return {
        stage: (
            bill[stage].cpu_seconds / trial.used[stage].cpu_seconds,
            bill[stage].peak_mib / trial.used[stage].peak_mib,
        )
        for stage in STAGES
    }


def machine() -> str:
    """Cores, processor and Python of this machine."""
    path = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (path.read_text().splitlines() if path.is_file() else [])
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores, {name}, Python {platform.python_version()}"
