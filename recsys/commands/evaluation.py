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
    users: Annotated[
        Path | None,
        typer.Option(help="Parquet with a row a user_id, for --by.", show_default=False),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Column of --users to cut the results by; may be given several times."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The bundle's training run, for its learning curves.")
    ] = None,
) -> None:
    """Measure a bundle over a split, with intervals and baselines, and write a report."""
    from recsys.config import EvaluateConfig, read_config
    from recsys.pipeline import evaluate_stage, holds_lives, outcome_report_stage

    settings = read_config(config).evaluate if config else EvaluateConfig()
    if holds_lives(dataset):
        if by or users or run:
            raise typer.BadParameter(
                "--users, --by and --run are for recommendations, not outcomes"
            )
        outcome_report_stage(bundle, dataset, out, settings, split=split)
    else:
        evaluate_stage(
            bundle, dataset, out, settings, split=split, users=users, user_columns=by or (), run=run
        )
    typer.echo(f"report  {out / 'report.html'}")
