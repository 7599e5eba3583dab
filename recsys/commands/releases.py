"""Verbs that publish bundles to a registry, roll back, and list what was published."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Bundle

app = typer.Typer()
Registry = Annotated[
    Path, typer.Option(help="Directory of published versions; servers read its CURRENT.")
]


@app.command()
def publish(
    bundle: Bundle,
    registry: Registry,
    sign: Annotated[
        Path | None, typer.Option(help="Ed25519 private key (PEM) to sign the release with.")
    ] = None,
    canary: Annotated[
        bool, typer.Option(help="Try the bundle in a child process before it becomes current.")
    ] = True,
    keep: Annotated[int, typer.Option(min=1, help="Versions to keep; older ones go.")] = 3,
) -> None:
    """Verify a bundle, try it in a child process, and make it the current version of a registry."""
    from serving.registry import Registry as Releases
    from serving.signature import SigningKey

    releases = Releases(registry)
    key = None if sign is None else SigningKey.read(sign)
    release, trial = releases.publish(bundle, canary=canary, signing_key=key)
    if trial is not None:
        typer.echo(f"tried    {trial.seconds:.1f} s, {trial.peak_bytes >> 20} MiB at most")
    typer.echo(f"current  {release.version}")
    for version in releases.collect(keep=keep):
        typer.echo(f"deleted  {version}")


@app.command()
def rollback(
    registry: Registry,
    to: Annotated[
        str | None, typer.Option(help="The version to serve; by default the one before.")
    ] = None,
) -> None:
    """Make an older version current again, after verifying it."""
    from serving.registry import Registry as Releases

    typer.echo(f"current  {Releases(registry).roll_back(to).version}")


@app.command()
def releases(registry: Registry) -> None:
    """List the versions of a registry, and whether each is whole."""
    from serving.bundle import open_bundle
    from serving.errors import BundleError
    from serving.registry import Registry as Releases

    published = Releases(registry)
    try:
        current = published.current().version
    except BundleError as error:
        current = ""
        typer.echo(f"current  none: {error}")
    for version in published.versions():
        try:
            open_bundle(published.directory(version))
            state = "whole"
        except BundleError as error:
            state = f"damaged: {error}"
        typer.echo(f"{'current' if version == current else '       '}  {version}  {state}")


@app.command(name="upload-index")
def upload_index(
    bundle: Bundle,
    qdrant: Annotated[str, typer.Option(help="Server, as http://host:6333.")],
) -> None:
    """Upload a bundle's item vectors to Qdrant, into collections named after its version.

    Before it is published, where `recsys serve` searches there (`index` of its [serve] section).
    May be repeated. RECSYS_INDEX_KEY is the server's key. Needs the `qdrant` extra.
    """
    import os
    from functools import partial

    from rich.progress import Progress

    from serving.bundle import open_bundle
    from serving.manifest import ModelSpec
    from serving.remote_index import QdrantIndexes

    opened = open_bundle(bundle)
    indexes = QdrantIndexes(qdrant, api_key=os.environ.get("RECSYS_INDEX_KEY"), timeout=30)
    for spec in opened.manifest.sources:
        if isinstance(spec, ModelSpec):
            with Progress(transient=True) as progress:
                task = progress.add_task(spec.name, total=opened.manifest.num_items)
                name = indexes.upload(opened, spec, partial(progress.advance, task))
            typer.echo(f"uploaded  {name}  {opened.manifest.num_items:,} vectors of {spec.dim}")
