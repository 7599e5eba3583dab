"""Learning curves of a training run, from its `metrics.jsonl`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.errors import InputError

METRICS = "metrics.jsonl"
SHOWN = ("loss", "score")
"""First what is learnt from, then what decides when to stop; further numbers follow by name."""
CLOCK = ("step", "epoch", "seconds", "events_per_second")
"""Numbers of a line that are no curve."""

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""By name, (step, value) of each validation."""


def read_curves(run: Path) -> Curves:
    """The curves of a run directory; raises InputError where there are none.

    Of a run in several stages each stage's, which count their steps from 0: `<stage>: <name>`.
    """
    stages = [] if (run / METRICS).exists() else sorted(run.glob(f"*/{METRICS}"))
    if not stages:
        return _curves_of(run / METRICS, run)
    return {
        f"{path.parent.name}: {name}": points
        for path in stages
        for name, points in _curves_of(path, run).items()
    }


def _curves_of(path: Path, run: Path) -> Curves:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        curves: dict[str, list[tuple[float, float]]] = {}
        for line in lines:
            for name, value in line.items():
                if name not in CLOCK and isinstance(value, int | float):
                    curves.setdefault(name, []).append((float(line["step"]), float(value)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no learning curves ({error}): is {run} a run?") from error
    if not curves:
        raise InputError(f"{path} holds no validation yet")
    return dict(
        sorted(curves.items(), key=lambda item: SHOWN.index(item[0]) if item[0] in SHOWN else 9)
    )
