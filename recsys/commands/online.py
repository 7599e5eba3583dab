"""Verbs of a running service: serve a bundle over HTTP, and read what it logged."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def serve(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle directory, or a registry made by `recsys publish`.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file with a section `serve`."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address; beyond this machine RECSYS_TOKEN is needed.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The admin listener takes the next.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes at one port; one a core answers the most.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Histories of users: a file, or redis://host:6379/0.")
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(help="Directory to log exposures and feedback in."),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="A second bundle to hold beside it in the playground.")
    ] = None,
) -> None:
    """Serve a bundle, or what a registry names, over HTTP, with a playground at /.

    Needs the `http` extra. Stop it with SIGTERM (drains first) or Ctrl-C.
    """
    from recsys.serve import serve_bundle

    overrides = {
        "host": host,
        "port": port,
        "processes": processes,
        "state": state,
        "log": log,
    }
    serve_bundle(bundle, config, overrides, compare)


@app.command()
def exposures(
    log: Annotated[Path, typer.Argument(help="The --log directory of `recsys serve`.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write; must not exist yet.")],
    reward: Annotated[
        list[str], typer.Option(help="What an event is worth, as click=1; repeat for more.")
    ],
    hours: Annotated[
        float, typer.Option(min=0, help="An event counts for an exposure at most so long before.")
    ] = 24.0,
) -> None:
    """Join what was shown with what came of it: the table for off-policy evaluation."""
    from features.stage import refuse_existing
    from serving.exposures import read_exposures

    refuse_existing(out)
    rewards = dict(_reward(text) for text in reward)
    found = read_exposures(log, rewards, window=timedelta(hours=hours))
    found, dropped = found.drop_nulls("propensity"), found["propensity"].null_count()
    found.write_parquet(out)
    rewarded = int((found["reward"] != 0).sum())
    typer.echo(
        f"exposures  {out}  {len(found):,} items shown in {found['request_id'].n_unique():,} "
        f"answers, {rewarded:,} with a reward"
    )
    if dropped:
        typer.echo(
            f"left out   {dropped:,} items below the first place, shown by a policy that does not "
            f"know their chance before drawing (thompson, or epsilon without simulations)"
        )


def _reward(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise typer.BadParameter(f"--reward {text}: expected NAME=NUMBER, as click=1") from None
