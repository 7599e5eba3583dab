"""Verbs that look into a ranker of long histories: attention, gradients."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Config, Dataset, Out

app = typer.Typer()


@app.command()
def attention(
    config: Config,
    run: Annotated[Path, typer.Option(help="A run of dare, twin, din, ... by `recsys train`.")],
    dataset: Dataset,
    field: Annotated[str, typer.Option(help="Item column of kind category or categories.")],
    out: Out,
    target: Annotated[
        str, typer.Option(help="Value to draw; default: the one with the most information.")
    ] = "",
    positions: Annotated[int, typer.Option(min=1, help="Recency ranks from the newest on.")] = 30,
    values: Annotated[int, typer.Option(min=2, help="Most frequent values of the field.")] = 20,
    min_rows: Annotated[int, typer.Option(min=1, help="Candidates a target value needs.")] = 700,
    moments: Annotated[int, typer.Option(min=1, help="Moments counted and judged.")] = 20_000,
) -> None:
    """Draw where a ranker looks beside where the information is, and judge its search by it."""
    from features.stage import refuse_existing
    from recsys.config import read_config
    from recsys.interpret.interest_attention import (
        AttentionSizes,
        measure_attention,
        write_attention,
    )
    from recsys.pipeline import ranker_of

    refuse_existing(out)
    _, _, training = ranker_of(read_config(config))
    sizes = AttentionSizes(positions=positions, values=values, min_rows=min_rows, moments=moments)
    found = measure_attention(run, dataset, field, training.ranking, sizes)
    shown = write_attention(found, out, target)
    for name, value in found.ndcg.items():
        typer.echo(f"search NDCG@{sizes.k} against mutual information, {name}: {value:.4f}")
    typer.echo(f"{found.moments:,} held-out moments; drawn: {field} = {shown}")
    typer.echo(f"attention  {out / 'attention.html'}")


@app.command()
def gradients(
    config: Config,
    dataset: Dataset,
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 300,
) -> None:
    """Tell whether attention and representation pull a shared table apart (reasons for DARE)."""
    from features.stage import refuse_existing
    from recsys.config import read_config
    from recsys.interpret.interest_gradients import compare_gradients, write_gradients
    from recsys.pipeline import ranker_of

    refuse_existing(out)
    name, fields, training = ranker_of(read_config(config))
    found = compare_gradients(name, fields, training, dataset, steps)
    write_gradients(found, out)
    for one in found:
        typer.echo(
            f"{one.field}: representation's gradient is {one.dominance:.1f} times attention's; "
            f"{one.conflict:.1%} of {steps:,} steps in conflict"
        )
    typer.echo(f"gradients  {out / 'gradients.html'}")
