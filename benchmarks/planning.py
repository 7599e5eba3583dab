"""The calculator's predictions beside measured runs, at the size it was fitted on and at ten times.

    python benchmarks/planning.py --folder work/planning [--costs costs.json] [--scale 1]

Fits prices on the trials of `recsys calibrate` (or takes those of --costs), then runs a workload of
their size and two of ten times as many users or items through the commands, and prints predicted
over measured for every stage.
"""

import argparse
from pathlib import Path

from recsys.planning.calibrate import calibrate, describe, errors
from recsys.planning.costs import Costs
from recsys.planning.trial import run_trial
from recsys.planning.workload import STAGES, Workload

CHECKS = {
    "1x": Workload(users=6_000, items=6_000, history=50, epochs=2),
    "10x the users": Workload(users=160_000, items=40_000, history=40, epochs=2),
    "10x the items": Workload(users=16_000, items=300_000, history=40, epochs=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("work/planning"))
    parser.add_argument("--costs", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    options = parser.parse_args()
    if options.costs:
        costs = Costs.read(options.costs)
    else:
        costs = calibrate(options.folder / "calibrate", options.scale, print)
        (options.folder / "costs.json").write_text(costs.to_json())
    lines = [
        "| workload | stage | processor s | predicted / measured | MiB | predicted / measured |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name in options.only:
        workload = CHECKS[name]
        print(f"{name}: {describe(workload)}", flush=True)
        trial = run_trial(workload, options.folder / name.replace(" ", "-"), print)
        for stage in STAGES:
            used, (time, memory) = trial.used[stage], errors(costs, trial)[stage]
            lines.append(
                f"| {name} | {stage} | {used.cpu_seconds:.1f} | {time:.2f} | {used.peak_mib:,.0f} "
                f"| {memory:.2f} |"
            )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
