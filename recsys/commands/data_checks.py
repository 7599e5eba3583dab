"""Verbs that look at data: what is in a dataset, what has changed, what knows the future."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from recsys.commands.arguments import Out

app = typer.Typer()
Page = Annotated[
    Path | None, typer.Option(help="Write a page (.html) or the figures (.json) as well.")
]


@app.command()
def describe(
    dataset: Annotated[Path, typer.Argument(help="A dataset made by `recsys features`.")],
    out: Page = None,
) -> None:
    """Users, items, density, lengths, popularity, time, repeats and cold items of a dataset."""
    from features.description import describe_dataset
    from features.store import Dataset
    from recsys.data_pages import show_description

    show_description(describe_dataset(Dataset.open(dataset)), out)


@app.command()
def drift(
    before: Annotated[Path, typer.Argument(help="The older dataset.")],
    now: Annotated[Path, typer.Argument(help="The newer dataset, or a Parquet file of requests.")],
    out: Page = None,
) -> None:
    """What has changed from one dataset to another, or to requests: schema, PSI, new, nulls."""
    import polars as pl

    from features.drift import compare_datasets, compare_requests
    from features.store import Dataset
    from recsys.data_pages import show_drift

    older = Dataset.open(before)
    if now.is_file():
        show_drift(compare_requests(older, pl.read_parquet(now)), out)
    else:
        show_drift(compare_datasets(older, Dataset.open(now)), out)


@app.command()
def audit(
    data: Annotated[Path, typer.Argument(help="A dataset; with --columns, an events directory.")],
    columns: Annotated[
        str, typer.Option(help="FILE.py:FUNCTION that adds columns to a Polars frame of events.")
    ] = "",
    cuts: Annotated[int, typer.Option(min=1, help="Moments at which the future is cut off.")] = 5,
    out: Page = None,
) -> None:
    """Find features that know the future: exit status 1 where there are any."""
    from features.audit import audit_columns, audit_dataset
    from features.store import Dataset
    from recsys.data_pages import show_audit
    from recsys.user_columns import load_function, read_events

    if columns:
        found = audit_columns(read_events(data), load_function(columns), cuts=cuts)
    else:
        found = audit_dataset(Dataset.open(data), cuts=cuts)
    show_audit(found, out)
    if found.leaks:
        raise typer.Exit(1)


@app.command()
def asof(
    dataset: Annotated[Path, typer.Argument(help="A dataset made by `recsys features`.")],
    out: Out,
    split: Annotated[
        Literal["training", "validation", "test"], typer.Option(help="Whose events get a row.")
    ] = "validation",
    features: Annotated[
        str, typer.Option(help="Names with commas between, or basic, or all.")
    ] = "all",
    label_delay_days: Annotated[
        int, typer.Option(min=0, help="Days after which statistics know of an event.")
    ] = 0,
    max_rows: Annotated[int | None, typer.Option(min=1, help="A sample of so many rows.")] = None,
) -> None:
    """Write a table of point-in-time features, a row an event of a split."""
    from features.store import Dataset
    from features.training_table import write_training_table

    wanted = features if features in ("basic", "all") else tuple(features.split(","))
    write_training_table(
        Dataset.open(dataset),
        out,
        split=split,
        wanted=wanted,  # pyright: ignore[reportArgumentType]
        label_delay_days=label_delay_days,
        max_rows=max_rows,
    )
    typer.echo(f"features  {out}")
