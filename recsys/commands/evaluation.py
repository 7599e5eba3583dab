"""Verbs that measure: what a bundle is worth on held-out events."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from recsys.commands.arguments import Bundle, Dataset, Out

app = typer.Typer()


@app.command()
def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    out: Out,
    config: Annotated[
        Path | None, typer.Option(help="Take cut-offs and baselines from its [evaluate] section.")
    ] = None,
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="Which held-out events to predict.")
    ] = "test",
) -> None:
    """Measure a bundle over a split, with intervals and baselines, and write a report."""
    from recsys.config import EvaluateConfig, read_config
    from recsys.pipeline import evaluate_stage, holds_lives, outcome_report_stage

    settings = read_config(config).evaluate if config else EvaluateConfig()
    measure = outcome_report_stage if holds_lives(dataset) else evaluate_stage
    measure(bundle, dataset, out, settings, split=split)
    typer.echo(f"report  {out / 'report.html'}")
