"""All stages of one config into one directory, each skipped when its result is already there.

    out/events  out/dataset  out/run  out/bundle  out/report

Rerunning after an interruption continues where it stopped: finished stages are kept, an unfinished
training resumes from its last checkpoint, other unfinished stages start again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.config import RunConfig

if TYPE_CHECKING:
    from offline_eval.report import Report

Say = Callable[[str], None]
"""Receives one line a stage."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The stage directories of one pipeline, below `root`."""

    root: Path

    @property
    def events(self) -> Path:  # noqa: D102
        return self.root / "events"

    @property
    def dataset(self) -> Path:  # noqa: D102
        return self.root / "dataset"

    @property
    def run(self) -> Path:  # noqa: D102
        return self.root / "run"

    @property
    def bundle(self) -> Path:  # noqa: D102
        return self.root / "bundle"

    @property
    def report(self) -> Path:  # noqa: D102
        return self.root / "report"
