"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="A TOML file: see configs/.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Directory to write; must not exist yet.")]
Bundle = Annotated[Path, typer.Argument(help="A bundle directory made by `recsys export`.")]
Dataset = Annotated[Path, typer.Option(help="A dataset directory made by `recsys features`.")]
