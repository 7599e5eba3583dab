"""What a run tells: a progress bar for people, JSON lines and TensorBoard for the record.

metrics.jsonl    one object a validation: step, epoch, loss, scores, events_per_second, seconds
tensorboard/     the same numbers
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from recsys.training.checkpoint import Progress as RunProgress
from recsys.training.task import Batch

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
SECONDS_PER_UPDATE = 0.5
"""Of the bar; reading the loss from a GPU waits for it, so not at every step."""


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of a JSONL file after `step`, which a killed run had written too early."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


class Journal:
    """Counts, and tells nobody: what the ranks other than the first need."""

    def __init__(self) -> None:
        self.events = 0
        """Targets since the last validation."""
        self.since = time.monotonic()

    def start(self, step: int, num_steps: int) -> None:
        """Begin at `step` of `num_steps`."""
        self.since = time.monotonic()

    def step(self, step: int, loss: Tensor, batch: Batch) -> None:
        """Count a step."""
        self.events += batch.num_targets

    def events_per_second(self) -> float:
        """Targets a second since the last validation, of this rank."""
        return self.events / max(time.monotonic() - self.since, 1e-9)

    def validation(self, progress: RunProgress, epoch: float, scores: Mapping[str, float]) -> None:
        """Take note of the scores of a validation."""
        self.events, self.since = 0, time.monotonic()


class WrittenJournal(Journal):
    """The record of one run. Made by `open_journal`."""

    def __init__(self, metrics: Path, board: SummaryWriter, bar: Progress) -> None:
        super().__init__()
        self.metrics, self.board, self.bar = metrics, board, bar
        self.task = bar.add_task("", total=None, text="")
        self.updated, self.best = 0.0, "-"

    def start(self, step: int, num_steps: int) -> None:
        """Drop what a killed process had written after `step`, and draw the bar."""
        super().start(step, num_steps)
        keep_until(self.metrics, step)
        self.bar.update(self.task, total=num_steps, completed=step)

    def step(self, step: int, loss: Tensor, batch: Batch) -> None:
        """Count a step, and now and then move the bar."""
        super().step(step, loss, batch)
        if time.monotonic() - self.updated < SECONDS_PER_UPDATE:
            return
        self.updated = time.monotonic()
        speed = f"{self.events_per_second():,.0f} events/s"
        text = f"loss {loss.item():.3f}  best {self.best}  {speed}"
        self.bar.update(self.task, completed=step, text=text)

    def validation(self, progress: RunProgress, epoch: float, scores: Mapping[str, float]) -> None:
        """Record the scores: a line for people, one of JSON, and TensorBoard."""
        super().validation(progress, epoch, scores)
        record = {
            "step": progress.step,
            "epoch": round(epoch, 3),
            **{name: round(value, 6) for name, value in scores.items()},
            "seconds": round(progress.seconds, 1),
        }
        with self.metrics.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        for name, value in scores.items():
            self.board.add_scalar(name, value, progress.step)
        self.best = f"{progress.best_score:.4f}"
        mark = "  best" if progress.best_step == progress.step else ""
        shown = "  ".join(f"{name} {_short(value)}" for name, value in scores.items())
        self.bar.console.print(
            f"epoch {epoch:g}  step {progress.step}  {shown}  {record['seconds']:.0f} s{mark}",
            highlight=False,
            soft_wrap=True,
        )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4f}"


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """A journal in `directory`; the bar is drawn on a terminal only."""
    console = Console(stderr=True)
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with SummaryWriter(directory / TENSORBOARD) as board, bar:
        yield WrittenJournal(directory / METRICS, board, bar)
