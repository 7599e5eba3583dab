"""What a second stage adds: the same candidates in retrieval order, and ranked in three ways.

    python benchmarks/two_stage.py configs/two-stage-shop.toml --out work/two-stage-shop

Trains both stages once and exports a bundle for each second stage: none, LightGBM, the neural
ranker, and LightGBM that reads the neural ranker's score. Each is evaluated through the code that
serves it; `comparison/` holds the table, paired by user, with Holm's correction. What is there is
kept, so stages made elsewhere may be put into OUT beforehand.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from data.build import build_events
from recsys.config import read_config
from recsys.pipeline import (
    CEILING,
    evaluate_stage,
    export_stage,
    features_stage,
    train_ranker_stage,
    train_stage,
)
from recsys.verdicts import compare_reports

SYSTEMS = {
    "none": "retrieval order",
    "lightgbm": "LightGBM",
    "neural": "neural ranker",
    "stacked": "both",
}


def main(
    config: Annotated[Path, typer.Argument(help="A config with [model] and [ranker].")],
    out: Annotated[Path, typer.Option(help="Folder of all stages.")],
    systems: Annotated[str, typer.Option(help="Second stages to make now.")] = ",".join(SYSTEMS),
) -> None:
    """Make what is missing, and the comparison."""
    settings = read_config(config)
    out.mkdir(parents=True, exist_ok=True)
    events, dataset, run, second = (out / n for n in ("events", "dataset", "run", "ranker-run"))
    if not events.exists():
        build_events(settings.data, events)
    if not dataset.exists():
        features_stage(settings, events, dataset)
    if not run.exists():
        train_stage(settings, dataset, run)
    made = systems.split(",")
    if not second.exists() and {"neural", "stacked"} & set(made):
        train_ranker_stage(settings, dataset, second)
    for ranker in made:
        started = time.monotonic()
        bundle, report = out / f"bundle-{ranker}", out / f"report-{ranker}"
        chosen = replace(settings, export=replace(settings.export, ranker=ranker))
        ranker_run = second if ranker in ("neural", "stacked") else None
        if not bundle.exists():
            export_stage(chosen, run, dataset, bundle, ranker_run=ranker_run)
        measured = settings.evaluate
        if ranker != "none":
            measured = replace(measured, baselines=())
        if not report.exists():
            ceiling = events / CEILING
            evaluate_stage(bundle, dataset, report, measured, ceiling=ceiling, run=run)
        typer.echo(f"{SYSTEMS[ranker]}: {time.monotonic() - started:.0f} s")
    reports = {out / f"report-{ranker}": system for ranker, system in SYSTEMS.items()}
    if missing := [system for path, system in reports.items() if not path.exists()]:
        typer.echo(f"no comparison yet: {', '.join(missing)} still to be made")
        return
    compare_reports(
        [f"{system}={path}" for path, system in reports.items()],
        out / "comparison",
        metric="ndcg@10",
        baselines=True,
        allow_differences=False,
        resamples=2_000,
        seed=0,
    )


if __name__ == "__main__":
    typer.run(main)
