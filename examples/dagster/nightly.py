"""The nightly pipeline as Dagster assets: train -> report -> gate -> published -> scores.

    pip install dagster
    export RECSYS=recsys CONFIG=recsys/demo.toml
    dagster job execute -f examples/dagster/nightly.py -j night

Each asset is one command of `recsys`, which continues what an interrupted night left and does
nothing where its result is there. A bundle that the gate refuses fails the night before anything is
published; what serves stays. As a service: `dagster dev -f examples/dagster/nightly.py` with the
schedule below switched on. Dagster is not a dependency of the package.
"""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

RECSYS = os.environ.get("RECSYS", "recsys")
CONFIG = os.environ.get("CONFIG", "recsys/demo.toml")
ROOT = Path(os.environ.get("ROOT", "work/dagster"))
NIGHT = os.environ.get("NIGHT") or f"{datetime.now(UTC):%Y-%m-%d}"
CURRENT = os.environ.get("CURRENT", "")
"""Report of what serves, over the same test; empty: recent popularity is the bar."""
HERE = ROOT / NIGHT


def recsys(context: dg.AssetExecutionContext, *arguments: str | Path) -> None:
    """Run a verb; its last lines go to the log, and its failure is the asset's."""
    done = subprocess.run([RECSYS, *map(str, arguments)], capture_output=True, text=True)
    told = (done.stdout + done.stderr).strip().splitlines()[-20:]
    context.log.info("\n".join(told))
    if done.returncode:
        raise dg.Failure(f"recsys {arguments[0]} ended with {done.returncode}: {told[-1:]}")


@dg.asset
def bundle_and_report(context: dg.AssetExecutionContext) -> None:
    """All stages from the log to a measured bundle."""
    recsys(context, "run", CONFIG, "--out", HERE)


@dg.asset(deps=[bundle_and_report])
def gate(context: dg.AssetExecutionContext) -> None:
    """Refuses a bundle that is worse than what serves, or than recent popularity."""
    current = ["--current", CURRENT] if CURRENT else []
    recsys(context, "gate", HERE / "report", *current)


@dg.asset(deps=[gate])
def published(context: dg.AssetExecutionContext) -> None:
    """The bundle as the newest version of the registry, once."""
    done = HERE / "published"
    if not done.exists():
        recsys(context, "publish", HERE / "bundle", "--registry", ROOT / "registry")
        done.touch()


@dg.asset(deps=[published])
def scores(context: dg.AssetExecutionContext) -> None:
    """Everybody's list."""
    limits = ("--require", "fallback_share <= 0.5")
    recsys(context, "score", HERE / "bundle", HERE / "dataset", "--out", HERE / "scores", *limits)


night = dg.define_asset_job("night", selection="*")
defs = dg.Definitions(
    assets=[bundle_and_report, gate, published, scores],
    jobs=[night],
    schedules=[dg.ScheduleDefinition(job=night, cron_schedule="15 2 * * *")],
)
