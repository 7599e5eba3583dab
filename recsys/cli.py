"""The command `recsys`: one verb a stage, each reads one directory and writes another.

The verbs, in `recsys.commands`, each parse, call one function and print one result. Heavy packages
load inside the verb, so `recsys --help` stays quick. Wrong input is one sentence and exit status 2.
"""

import sys

import typer

from features.errors import InputError
from recsys.commands import (
    answers,
    data_checks,
    evaluation,
    gates,
    interests,
    lives,
    online,
    planning,
    playlists,
    releases,
    scoring,
    stages,
    tasks,
    verdicts,
)
from serving.errors import ServingError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From an event log to measured, served recommendations, through one portable bundle.",
    epilog="Start with: recsys demo",
)
GROUPS = (
    stages,
    data_checks,
    evaluation,
    interests,
    verdicts,
    gates,
    answers,
    scoring,
    releases,
    online,
    lives,
    planning,
    tasks,
    playlists,
)
for group in GROUPS:
    app.add_typer(group.app)


def main() -> None:
    """Run the command; the caller's mistakes end in one sentence and exit status 2."""
    try:
        app()
    except (InputError, ServingError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
