"""Verbs for rankers of several tasks: tasks, transfer, task-maps, repolicy."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Bundle, Config, Dataset, Out

app = typer.Typer()
Run = Annotated[Path, typer.Argument(help="A run of dtrn or multi_task made by `recsys train`.")]


@app.command()
def tasks(run: Run) -> None:
    """Tell where each task of a run was best, and what the common stop costs it."""
    from recsys.task_stops import task_stops

    stops = task_stops(run)
    typer.echo(f"kept step {stops[0].kept_step}, the best mean AUC of validation")
    for stop in stops:
        typer.echo(
            f"{stop.task}: AUC {stop.kept:.4f} kept, {stop.best:.4f} at step {stop.best_step}, "
            f"{stop.last:.4f} at the end; the common stop costs {stop.lost:.4f}"
        )


@app.command()
def transfer(
    config: Config,
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option(help="Directory to write; runs that are there already are kept.")
    ],
) -> None:
    """Train every task alone and all jointly: who is hurt, and whether gradients agree."""
    from recsys.config import read_config
    from recsys.transfer import transfer_report

    for one in transfer_report(read_config(config), dataset, out):
        middle, low, high = one.difference
        typer.echo(
            f"{one.task}: AUC {one.joint['auc']:.4f} jointly, {one.alone['auc']:.4f} alone, "
            f"{middle:+.4f} [{low:+.4f}, {high:+.4f}]: {one.verdict}"
        )
    typer.echo(f"transfer  {out / 'transfer.html'}")


@app.command("task-maps")
def task_maps(
    run: Run,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="HTML file to write; the numbers go beside it.")],
) -> None:
    """Draw what each task attends to, its gates, and whether the tasks part at all."""
    from recsys.task_maps import write_maps

    found = write_maps(run, dataset, out)
    for name, value in found.specialisation.items():
        typer.echo(f"{name}  {value:.4f}")
    typer.echo(f"maps  {out}")


@app.command()
def repolicy(
    bundle: Bundle,
    out: Out,
    formula: Annotated[
        str | None, typer.Option(help="How tasks make one score, such as 'click^0.5 * buy^2'.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="A TOML file with the keys of `export.policy`.")
    ] = None,
) -> None:
    """Write a bundle anew with another policy or formula: same files, no training, no export."""
    from recsys.repolicy import repolicy as write

    if formula is None and policy is None:
        raise typer.BadParameter("give --formula, --policy, or both")
    written = write(bundle, out, policy=policy, formula=formula)
    typer.echo(f"bundle  {out}  formula {written.formula or 'none'}")
