"""The bill of a workload as a table: core hours, memory, disk, machines."""

import math

from rich.console import Console
from rich.table import Table

from recsys.planning.calibrate import describe
from recsys.planning.costs import Costs
from recsys.planning.workload import Workload

HOUR = 3_600.0
ROW_BYTES = {"data": 12, "features": 13}
"""Bytes of an event on disk, about: events/ compressed, dataset/ plain."""
LISTED_BYTES = 14
"""Bytes of a listed item in the Parquet of `recsys score`."""
SPREADS = ("score",)
"""Stages whose work is dealt out over cores and machines; the others are one process each."""


def disk_gib(stage: str, workload: Workload) -> float:
    """Size of what a stage leaves."""
    vectors = 4.0 * workload.items * workload.dim
    sizes = {
        "data": ROW_BYTES["data"] * workload.events,
        "features": ROW_BYTES["features"] * workload.events,
        "train": vectors,
        "export": vectors,
        "score": float(LISTED_BYTES * workload.users * workload.k),
    }
    return sizes[stage] / 2**30


def show_plan(costs: Costs, workload: Workload, *, cores: int, hours: float) -> None:
    """Print the table, and what it rests on."""
    console = Console()
    table = Table(title=describe(workload), title_justify="left")
    for name in ("stage", "core hours", "peak GiB a process", "disk GiB", "how"):
        table.add_column(name, justify="left" if name in ("stage", "how") else "right")
    for stage, used in costs.bill(workload).items():
        core_hours = used.cpu_seconds / HOUR
        if stage in SPREADS:
            a_machine = cores * costs.parallel * hours
            machines = max(math.ceil(core_hours / a_machine), 1)
            took = core_hours / (machines * cores * costs.parallel)
            how = (
                f"{machines} machine{'s' * (machines > 1)} of {cores} cores: {took:.1f} h, "
                f"{cores * used.peak_mib / 1024:,.1f} GiB each"
            )
        else:
            how = f"one process: {core_hours:,.1f} h on one core"
        table.add_row(
            stage,
            f"{core_hours:,.2f}",
            f"{used.peak_mib / 1024:,.1f}",
            f"{disk_gib(stage, workload):,.1f}",
            how,
        )
    console.print(table)
    console.print(
        f"Prices measured on {costs.machine}, {costs.date}; a core does {costs.parallel:.2f} of "
        f"its work when all are busy. Beyond ten times the trials' size ("
        f"{max(t.workload.users for t in costs.trials):,} users, "
        f"{max(t.workload.items for t in costs.trials):,} items) this is an extrapolation.",
        soft_wrap=True,
        highlight=False,
    )
    if workload.negatives == 0 or workload.items > 1_000_000:
        console.print(
            "Training on a GPU has no price here until `recsys calibrate` has measured one: "
            "docs/planning.md says what to watch.",
            highlight=False,
        )
