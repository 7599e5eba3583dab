"""Verbs that measure: what a bundle is worth on held-out events."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from recsys.commands.arguments import Dataset, Out

app = typer.Typer()


@app.command()
def evaluate(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A bundle directory; or anybody's lists, a Parquet with user_id, item_id and rank "
            "or score."
        ),
    ],
    dataset: Dataset,
    out: Out,
    config: Annotated[
        Path | None, typer.Option(help="Take cut-offs and baselines from its section `evaluate`.")
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
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Lists may hold items of the user's history.")
    ] = False,
) -> None:
    """Measure a bundle, or lists, over a split, with intervals and baselines; write a report."""
    from recsys.config import EvaluateConfig, read_config
    from recsys.pipeline import evaluate_stage, holds_lives, outcome_report_stage

    settings = read_config(config).evaluate if config else EvaluateConfig()
    if holds_lives(dataset):
        if by or users or run:
            raise typer.BadParameter(
                "--users, --by and --run are for recommendations, not outcomes"
            )
        outcome_report_stage(bundle, dataset, out, settings, split=split)
    elif bundle.is_file():
        from recsys.evaluate_lists import evaluate_lists

        if run:
            raise typer.BadParameter("--run is the training run of a bundle, these are lists")
        evaluate_lists(
            bundle,
            dataset,
            out,
            split=split,
            ks=settings.ks,
            baselines=settings.baselines,
            resamples=settings.resamples,
            seed=settings.seed,
            exclude_seen=not keep_seen,
            users=users,
            user_columns=by or (),
        )
    else:
        if keep_seen:
            raise typer.BadParameter("--keep-seen is for lists; a bundle's policy says it itself")
        evaluate_stage(
            bundle, dataset, out, settings, split=split, users=users, user_columns=by or (), run=run
        )
    typer.echo(f"report  {out / 'report.html'}")


@app.command()
def collisions(
    dataset: Annotated[Path, typer.Argument(help="A dataset directory.")],
    column: Annotated[
        list[str] | None,
        typer.Option(help="An encoded item column; repeat it. By default all but texts' own."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Length of the lists.")] = 20,
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="Whose targets the bound is for.")
    ] = "test",
) -> None:
    """Count items that no model of attributes can tell apart, and bound what it can reach."""
    from recsys.collisions import collision_report

    for line in collision_report(dataset, column or [], k, split):
        typer.echo(line)
