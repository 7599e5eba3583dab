"""The README stays true: its tree lists every file by its own first line, its commands exist."""

import ast
import re
from pathlib import Path

import typer.main

from recsys.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = (
    "data",
    "features",
    "recsys",
    "recsys/commands",
    "recsys/models",
    "recsys/baselines",
    "recsys/training",
    "recsys/export",
    "serving",
    "serving/jobs",
    "offline_eval",
)


def tree() -> str:
    """One line a file: its name, and the first line of its docstring."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for path in sorted((ROOT / package).glob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            first = docstring.split("\n")[0].rstrip(".")
            if path.name != "__init__.py" or package in ("recsys/models", "recsys/baselines"):
                lines.append(f"  {path.name:<22} {first}")
    return "\n".join(lines)


def test_the_tree_lists_every_file_in_its_own_words() -> None:
    assert f"```\n{tree()}\n```" in README, f"put this into the README:\n{tree()}"


def test_every_command_in_the_readme_exists() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    named = set(re.findall(r"^(?:\.venv/bin/)?recsys ([a-z]+)", README, flags=re.MULTILINE))
    assert named, "the README shows no command"
    assert named <= set(group.commands)


def test_every_file_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
