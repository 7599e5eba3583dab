"""Verbs that ask a bundle: recommendations for one history, and for every user."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Bundle, Out

app = typer.Typer()


@app.command()
def recommend(
    bundle: Bundle,
    items: Annotated[
        list[str] | None, typer.Argument(help="The history: raw item ids, oldest first.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Take this user's history from --dataset instead.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="A dataset directory; needed with --user.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items to recommend.")] = 10,
) -> None:
    """Recommend items for a history, or for a user of a dataset."""
    if (user is None) != (dataset is None):
        raise typer.BadParameter("--user and --dataset go together")
    if user is not None and items:
        raise typer.BadParameter("give item ids or --user, not both")
    from recsys.recommend import recommend_items, recommend_user

    if user is not None and dataset is not None:
        recommend_user(bundle, dataset, user, k)
    else:
        recommend_items(bundle, items or [], k)


@app.command()
def score(
    bundle: Bundle,
    out: Out,
    dataset: Annotated[Path | None, typer.Option(help="Score all users of this dataset.")] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Or of this Parquet: user_id, item_id and, if known, timestamp, event."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items per user.")] = 100,
    part_size: Annotated[int, typer.Option(min=1, help="Users per output part.")] = 10_000,
) -> None:
    """Write the top k of every user as Parquet parts. Interrupted? The same command continues."""
    if (dataset is None) == (events is None):
        raise typer.BadParameter("give either --dataset or --events")
    from serving.batch import score as score_users

    source = dataset if dataset is not None else events
    assert source is not None
    score_users(bundle, source, out, k=k, part_size=part_size)
    typer.echo(f"scores  {out}")
