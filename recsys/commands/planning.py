"""Verbs that say what a pipeline of another size will take: time, memory, machines."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

MODEL = "Model and training"
MACHINES = "Machines"


@app.command()
def plan(
    users: Annotated[float, typer.Option(help="Users, such as 100e6.")],
    items: Annotated[float, typer.Option(help="Items, such as 10e6.")],
    history: Annotated[float, typer.Option(help="Events a user, mean.")] = 50.0,
    k: Annotated[int, typer.Option("-k", "--k", help="Items listed a user.")] = 100,
    candidates: Annotated[
        int, typer.Option(help="Items a user that LightGBM ranks; 0: no ranker.")
    ] = 0,
    max_len: Annotated[
        int, typer.Option(help="Events the model reads.", rich_help_panel=MODEL)
    ] = 50,
    dim: Annotated[int, typer.Option(help="Width of the model.", rich_help_panel=MODEL)] = 64,
    blocks: Annotated[int, typer.Option(help="Transformer blocks.", rich_help_panel=MODEL)] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the log.", rich_help_panel=MODEL)] = 20,
    negatives: Annotated[
        int,
        typer.Option(help="Of sampled softmax; 0: the whole catalogue.", rich_help_panel=MODEL),
    ] = 256,
    cores: Annotated[
        int, typer.Option(min=1, help="Cores of a machine.", rich_help_panel=MACHINES)
    ] = 16,
    hours: Annotated[
        float, typer.Option(min=0.01, help="Hours in which to score.", rich_help_panel=MACHINES)
    ] = 8.0,
    costs: Annotated[
        Path | None,
        typer.Option(
            help="Prices of your machine from `recsys calibrate`; by default those of ours.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
) -> None:
    """Predict core hours, peak memory and machines of each stage of a SASRec pipeline."""
    from features.errors import InputError
    from recsys.planning.costs import SHIPPED, Costs
    from recsys.planning.table import show_plan
    from recsys.planning.workload import Workload

    try:
        workload = Workload(
            users=round(users), items=round(items), history=history, max_len=max_len, dim=dim,
            num_blocks=blocks, epochs=epochs, negatives=negatives, k=k, candidates=candidates,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(str(error)) from error
    show_plan(Costs.read(costs or SHIPPED), workload, cores=cores, hours=hours)


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="File of the prices to write; must not exist yet.")],
    folder: Annotated[
        Path, typer.Option(help="Where the trials may work; emptied afterwards.")
    ] = Path("work/calibrate"),
    scale: Annotated[
        float, typer.Option(min=0.1, help="Size of the trials: 1 takes some ten minutes.")
    ] = 1.0,
) -> None:
    """Measure this machine by small trials of every stage, for `recsys plan --costs`."""
    from features.stage import refuse_existing
    from recsys.planning.calibrate import calibrate as run_trials

    refuse_existing(out)
    found = run_trials(folder, scale, typer.echo)
    out.write_text(found.to_json())
    typer.echo(f"costs  {out}")
