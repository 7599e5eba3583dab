"""Verbs that ask a bundle about everybody, or about every item: batch jobs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from recsys.commands.arguments import Bundle, Out

app = typer.Typer()

CHECKS = "Checks before the result is published"
OUTCOMES = "Of bundles that predict outcomes"


@app.command()
def score(
    bundle: Bundle,
    source: Annotated[
        Path,
        typer.Argument(help="A dataset, a Parquet file, a folder of Parquet shards, or a pattern."),
    ],
    out: Out,
    what: Annotated[
        Literal["lists", "rows", "vectors"],
        typer.Option(help="One row a user with lists, one row an item, or vectors of the users."),
    ] = "lists",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Items per user.")] = 100,
    explain: Annotated[
        int,
        typer.Option(
            min=0, help="Also say why, of each user's first so many items; ten times the work."
        ),
    ] = 0,
    history: Annotated[
        Literal["all", "validation", "test"],
        typer.Option(help="Of a dataset: all events of a user, or those before a split."),
    ] = "all",
    part_size: Annotated[
        int, typer.Option(min=1, help="Users per output part; a shard is always one part.")
    ] = 10_000,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default one a core.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Score on a Ray cluster instead: its address, or 'local'.")
    ] = None,
    persons: Annotated[
        Path | None,
        typer.Option(help="Parquet of background columns.", rich_help_panel=OUTCOMES),
    ] = None,
    at: Annotated[
        str, typer.Option(help="Leave out events from then on (ISO).", rich_help_panel=OUTCOMES)
    ] = "",
    previous: Annotated[
        Path | None,
        typer.Option(help="Result of an earlier job to compare with.", rich_help_panel=CHECKS),
    ] = None,
    max_quarantined: Annotated[
        int, typer.Option(min=0, help="Parts that may fail.", rich_help_panel=CHECKS)
    ] = 0,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="A figure and its limit, such as 'coverage >= 0.2', 'fallback_share <= 0.1', "
            "'score_psi <= 0.25', 'overlap >= 0.3'; may be repeated.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
) -> None:
    """Answer for every user as Parquet parts. Interrupted? The same command continues.

    A source holds events (user_id, item_id, timestamp and event if known; oldest first) or
    contexts (one row a user: user_id and the list `history`). A bundle that predicts outcomes takes
    a dataset of lives, or events with the columns it was trained on; --what vectors adds persons'.
    """
    if ray is not None and processes is not None:
        raise typer.BadParameter("give --ray or --processes, not both")
    from serving.batch import Checks, score_people
    from serving.batch import score as score_users
    from serving.bundle import predicts_outcomes
    from serving.jobs.executors import local
    from serving.jobs.plan import PeopleQuestion, Question
    from serving.jobs.quality import Limit

    executor = None
    if ray is not None:
        from serving.jobs.ray_executor import RayExecutor

        executor = RayExecutor(ray)
    elif processes is not None:
        executor = local(processes)
    if predicts_outcomes(bundle):
        if require or previous or explain:
            raise typer.BadParameter(
                "--require, --previous and --explain are for bundles that recommend"
            )
        told = PeopleQuestion(
            persons=str(persons) if persons else "", at=at, embedding=what == "vectors"
        )
        score_people(bundle, source, out, question=told, part_size=part_size, executor=executor)
        typer.echo(f"scores  {out}")
        return
    if persons or at:
        raise typer.BadParameter("--persons and --at are for bundles that predict outcomes")
    limits = tuple(Limit.parse(text) for text in require or ())
    checks = Checks(max_quarantined=max_quarantined, limits=limits, previous=previous)
    question = Question(what=what, k=k, history=history, explain=explain)
    score_users(
        bundle,
        source,
        out,
        question=question,
        part_size=part_size,
        executor=executor,
        checks=checks,
    )
    typer.echo(f"scores  {out}")


@app.command()
def items(
    bundle: Bundle,
    out: Out,
    what: Annotated[
        Literal["vectors", "similar"],
        typer.Option(help="Vectors of all items, or for each the ones most like it."),
    ] = "similar",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Similar items of each.")] = 50,
    part_size: Annotated[int, typer.Option(min=1, help="Items per output part.")] = 50_000,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default one a core.")
    ] = None,
) -> None:
    """Write vectors or neighbours of the whole catalogue as Parquet parts, like `score`."""
    from serving.batch import score as answer
    from serving.jobs.executors import local
    from serving.jobs.plan import Question

    question = Question(what="item-vectors" if what == "vectors" else "similar-items", k=k)
    executor = None if processes is None else local(processes)
    answer(bundle, None, out, question=question, part_size=part_size, executor=executor)
    typer.echo(f"items  {out}")
