"""Verbs that make one directory from another, a stage each, or all of them (run, demo)."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.commands.arguments import Bundle, Config, Dataset, Out

if TYPE_CHECKING:
    from features.spread import Spread

app = typer.Typer()

Ray = Annotated[
    str | None,
    typer.Option(
        help="Work on a log in parts on a Ray cluster: its address, or 'local'. All paths must "
        "mean the same there."
    ),
]


def spread_on(ray: str | None) -> "Spread | None":
    """Where pieces of a stage are made: on Ray at this address, or here."""
    if ray is None:
        return None
    from features.ray_cluster import RaySpread

    return RaySpread(ray)


@app.command()
def data(
    config: Config,
    out: Out,
    base: Annotated[
        Path | None, typer.Option(help="An events directory in parts that the log continues.")
    ] = None,
    ray: Ray = None,
    on_error: Annotated[
        Literal["stop", "skip"] | None,
        typer.Option(help="Bad rows of log files: stop, or skip and list them. Over the config."),
    ] = None,
) -> None:
    """Load a source into an events directory: events, items, users, with licence and hashes."""
    from dataclasses import replace

    from data.build import build_events
    from data.config import LogFiles
    from recsys.config import read_config

    source = read_config(config).data
    if on_error is not None:
        if not isinstance(source, LogFiles):
            raise typer.BadParameter("--on-error is for log files: source = 'log'")
        source = replace(source, on_error=on_error)
    build_events(source, out, base, spread_on(ray))
    typer.echo(f"events  {out}")


@app.command()
def features(
    config: Config,
    events: Annotated[Path, typer.Option(help="An events directory made by `recsys data`.")],
    out: Out,
    base: Annotated[
        Path | None,
        typer.Option(help="A dataset of an older, shorter log: its ids are kept."),
    ] = None,
    ray: Ray = None,
) -> None:
    """Clean, split and encode events into a dataset directory, ready for training."""
    from recsys.config import read_config
    from recsys.pipeline import features_stage

    features_stage(read_config(config), events, out, base, spread_on(ray))
    typer.echo(f"dataset  {out}")


@app.command()
def train(
    config: Config,
    dataset: Dataset,
    out: Out,
    ranker: Annotated[
        bool, typer.Option("--ranker", help="Train the config's ranker, not its model.")
    ] = False,
) -> None:
    """Train the config's model. Interrupted? The same command resumes where it stopped."""
    from recsys.config import read_config
    from recsys.pipeline import train_ranker_stage, train_stage

    stage = train_ranker_stage if ranker else train_stage
    best = stage(read_config(config), dataset, out)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process tells
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
    ranker_run: Annotated[
        Path | None,
        typer.Option(
            help='A run made by `recsys train --ranker`, for export.ranker = "neural" or "stacked".'
        ),
    ] = None,
    reuse: Annotated[
        Path | None,
        typer.Option(
            help="A bundle of the same item encoder: only items it lacks, or whose text has "
            "changed, are encoded."
        ),
    ] = None,
) -> None:
    """Write a bundle: graphs, vectors, vocabularies and ranker, checked against the model."""
    from recsys.config import read_config
    from recsys.pipeline import export_stage

    export_stage(read_config(config), run, dataset, out, ranker_run=ranker_run, reuse=reuse)
    if reuse is not None:
        from serving.bundle import open_bundle

        manifest = open_bundle(out).manifest
        kept = manifest.report["item_vectors_reused"]
        typer.echo(f"{kept:,} of {manifest.num_items:,} item vectors are those of {reuse}")
    typer.echo(f"bundle  {out}")


@app.command("add-items")
def add_items(
    bundle: Bundle,
    items: Annotated[
        Path,
        typer.Argument(
            help="Parquet of new items: item_id and the columns that the bundle's model reads."
        ),
    ],
    out: Out,
) -> None:
    """Write another bundle that also recommends new items, without training."""
    from serving.extend import add_items as extend

    extended = extend(bundle, items, out)
    typer.echo(f"bundle  {out}  ({extended.added:,} items added, now {extended.num_items:,})")
    if extended.ignored:
        typer.echo(f"columns not used: {', '.join(extended.ignored)}")


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
