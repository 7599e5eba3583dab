"""What a policy would have earned, on a terminal."""

import math

from rich import box
from rich.console import Console
from rich.table import Table

from offline_eval.off_policy import PolicyValue
from offline_eval.significance import Estimate

NAMES = {
    "logged": "logged policy, as it was",
    "ips": "new policy, IPS",
    "snips": "new policy, SNIPS",
    "dr": "new policy, DR",
}


def print_policy(found: PolicyValue, console: Console | None = None) -> None:
    """Estimates with intervals, overlap, warnings, and the verdict in words."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("reward a request", "value", "95 % interval"):
        table.add_column(name, justify="left" if name.startswith("reward") else "right")
    for name, told in NAMES.items():
        one: Estimate = getattr(found, name)
        table.add_row(told, f"{one.value:.5f}", f"{one.low:.5f} to {one.high:.5f}")
    console.print(table)
    overlap = found.overlap
    share = overlap.effective / overlap.exposures
    console.print(
        f"{found.requests:,} requests, {overlap.exposures:,} exposures, worth "
        f"{overlap.effective:,.0f} under the new policy ({share:.1%}); mean weight "
        f"{overlap.mean_weight.value:.3f}, largest {overlap.largest:.1f}, the top 1 % hold "
        f"{overlap.tail_share:.1%}.",
        style="dim",
    )
    for warning in overlap.warnings:
        console.print(f"CAUTION: {warning}.", style="red")
    gain = found.gain
    told = {
        "better": "The new policy earns MORE than the logged one",
        "worse": "The new policy earns LESS than the logged one",
        "not distinguishable": "The new policy CANNOT be told from the logged one",
    }[gain.verdict]
    if not math.isnan(gain.value):
        console.print(
            f"{told}: {gain.value:+.5f} a request by DR (95 % interval {gain.low:+.5f} to "
            f"{gain.high:+.5f}, {gain.users:,} users).",
            style="green" if gain.verdict == "better" and not overlap.warnings else "yellow",
        )
