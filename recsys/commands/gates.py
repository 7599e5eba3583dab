"""The verb that stands between a nightly training and its publication."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
REFUSED = 3
"""Exit status of a candidate that does not pass; 2 stays for wrong input."""


@app.command()
def gate(
    report: Annotated[Path, typer.Argument(help="Report of the candidate (`recsys evaluate`).")],
    current: Annotated[
        Path | None, typer.Option(help="Report of what serves, over the same test.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="By default NDCG at the report's main cut-off.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Loss against --current that is tolerated: the whole interval must lie above it. "
            "By default only a loss beyond chance refuses.",
        ),
    ] = None,
    popularity: Annotated[
        bool, typer.Option(help="Whether recent popularity must be beaten.")
    ] = True,
) -> None:
    """Refuse a candidate that is worse than what serves or than recent popularity: status 3."""
    from offline_eval.gate import reasons_against

    against, in_favour = reasons_against(
        report, current, metric=metric, margin=margin, popularity=popularity
    )
    for sentence in in_favour:
        typer.echo(sentence)
    for sentence in against:
        typer.echo(f"against: {sentence}")
    typer.echo("refused" if against else "passed")
    if against:
        sys.exit(REFUSED)
