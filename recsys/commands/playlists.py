"""Verbs that look at playlists: what their vectors know, a map of them, the nearest of one."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.arguments import Bundle, Dataset, Out

app = typer.Typer()

Run = Annotated[
    Path, typer.Argument(help="A run of a retriever, such as playlist_seq2seq or playlist_bow.")
]
Users = Annotated[
    Path | None,
    typer.Option(help="Parquet with a row a user_id (a user is a playlist).", show_default=False),
]
Label = Annotated[
    str, typer.Option(help="Column of --users: what a playlist is, such as its genre.")
]


@app.command("playlist-probe")
def playlist_probe(
    run: Run,
    dataset: Dataset,
    out: Out,
    users: Users = None,
    label: Label = "",
    attribute: Annotated[
        str, typer.Option(help="Category column of the songs, such as artist, for diversity.")
    ] = "",
    content_songs: Annotated[
        int, typer.Option(min=2, help="Songs that the content task looks for.")
    ] = 500,
    most: Annotated[int, typer.Option(min=20, help="Playlists that train a classifier.")] = 10_000,
    seed: int = 0,
) -> None:
    """Measure what playlist vectors know: label, diversity, length, content, order, retrieval.

    Each beside the majority rate, the untrained model and a bag of songs. Writes a page and JSON.
    """
    from recsys.playlists.probe_report import ProbeOptions, print_rows, write_probes

    options = ProbeOptions(
        users=users,
        label=label,
        attribute=attribute,
        content_songs=content_songs,
        most=most,
        seed=seed,
    )
    print_rows(write_probes(run, dataset, out, options))
    typer.echo(f"probes  {out / 'probes.html'}")


@app.command("playlist-map")
def playlist_map(
    run: Run,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    users: Users = None,
    label: Label = "",
    name: Annotated[str, typer.Option(help="Column of --users: what a playlist is called.")] = "",
    most: Annotated[int, typer.Option(min=5, help="Playlists drawn.")] = 2_000,
    seed: int = 0,
) -> None:
    """Draw playlists as one HTML page: songs on hover, search, and the nearest of a chosen one."""
    from recsys.playlists.playlist_map import MapOptions, write_map

    options = MapOptions(users=users, label=label, name=name, most=most, seed=seed)
    typer.echo(f"{write_map(run, dataset, out, options):,} playlists  {out}")


@app.command("playlist-nearest")
def playlist_nearest(
    bundle: Bundle,
    songs: Annotated[list[str], typer.Argument(help="Raw item ids, in order.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Playlists to find.")] = 5,
) -> None:
    """Show the training playlists of a bundle that are most like the given songs."""
    from recsys.playlists.nearest import nearest_playlists

    for place, near in enumerate(nearest_playlists(bundle, songs, k), 1):
        told = "; ".join(near.songs[:8]) + ("; ..." if len(near.songs) > 8 else "")
        typer.echo(
            f"{place}. cosine {near.cosine:.3f}, {len(near.songs)} songs, {near.shared} of those "
            f"given: {told}"
        )
