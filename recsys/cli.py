"""The command `recsys`: one verb a stage, each reads one directory and writes another.

Parse, call one function, print one result. Heavy packages are imported by the verb that needs
them, so `recsys --help` stays quick. Wrong input is one sentence and exit status 2.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from features.errors import InputError
from serving.errors import ServingError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From an event log to measured, served recommendations, through one portable bundle.",
    epilog="Start with: recsys demo",
)

Config = Annotated[Path, typer.Argument(help="A TOML file: see configs/.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Directory to write; must not exist yet.")]
Bundle = Annotated[Path, typer.Argument(help="A bundle directory made by `recsys export`.")]
Dataset = Annotated[Path, typer.Option(help="A dataset directory made by `recsys features`.")]


@app.command()
def data(config: Config, out: Out) -> None:
    """Load a source into an events directory: events, items, users, with licence and hashes."""
    from data.build import build_events
    from recsys.config import read_config

    build_events(read_config(config).data, out)
    typer.echo(f"events  {out}")


@app.command()
def features(
    config: Config,
    events: Annotated[Path, typer.Option(help="An events directory made by `recsys data`.")],
    out: Out,
) -> None:
    """Clean, split and encode events into a dataset directory, ready for training."""
    from features.build import build_dataset
    from recsys.config import read_config

    build_dataset(events, read_config(config).features, out)
    typer.echo(f"dataset  {out}")


@app.command()
def train(config: Config, dataset: Dataset, out: Out) -> None:
    """Train the config's model. Interrupted? The same command resumes where it stopped."""
    from recsys.config import read_config
    from recsys.pipeline import train_stage

    best = train_stage(read_config(config), dataset, out)
    typer.echo(f"step {best.step}  validation score {best.score:.4f}  {out}")


@app.command()
def export(
    config: Config,
    dataset: Dataset,
    out: Out,
    run: Annotated[
        Path | None,
        typer.Option(help="A run made by `recsys train`; without it no neural source is exported."),
    ] = None,
) -> None:
    """Write a bundle: graphs, vectors, vocabularies and ranker, checked against the model."""
    from recsys.config import read_config
    from recsys.export.bundle import export as export_bundle

    export_bundle(run, dataset, read_config(config).export, out)
    typer.echo(f"bundle  {out}")


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
    from recsys.pipeline import evaluate_stage

    settings = read_config(config).evaluate if config else EvaluateConfig()
    evaluate_stage(bundle, dataset, out, settings, split=split)
    typer.echo(f"report  {out / 'report.html'}")


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


@app.command()
def run(config: Config, out: Out) -> None:
    """All stages of a config, one after the other, each kept in OUT; continues what is there."""
    from recsys.pipeline import run_pipeline

    run_pipeline(config, out, typer.echo)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for all stages.")] = Path("work/demo"),
) -> None:
    """A synthetic shop from events to served recommendations in three minutes, no network."""
    from recsys.demo import run_demo

    run_demo(out, typer.echo)


def main() -> None:
    """Run the command; the caller's mistakes end in one sentence and exit status 2."""
    try:
        app()
    except (InputError, ServingError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
