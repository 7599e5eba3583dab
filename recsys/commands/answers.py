"""The verb that asks a bundle for one person: recommend."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Bundle

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
