"""Figures of several seeds in a file of JSON lines: what is there already, and means over seeds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What earlier runs wrote, none where there is no file; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_line(path: Path, line: dict[str, Any]) -> None:
    """Append one run's figures."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def interval(values: list[float], digits: int = 4, *, signed: bool = False) -> str:
    """Mean and half of Student's 95 % interval."""
    mean = float(np.mean(values))
    shown = f"{mean:+.{digits}f}" if signed else f"{mean:.{digits}f}"
    if len(values) < 2:
        return shown
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{shown} ± {half:.{digits}f}"
