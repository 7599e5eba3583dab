"""What a job shows while it works: a bar on a terminal, now and then a log line elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serving.jobs.plan import Plan

log = logging.getLogger(__name__)
LOG_LINES = 10
"""Lines logged about the progress, about, where no terminal shows a bar."""


@contextmanager
def show_progress(plan: Plan, parts: int, users: int) -> Iterator[Callable[[int], None]]:
    """Yield what is called with the users of each finished part (0 for one that failed).

    parts, users: finished by an earlier call.
    """
    console = Console(stderr=True)
    started, total = time.monotonic(), len(plan.parts)
    scored = 0

    def speed() -> float:
        return scored / max(time.monotonic() - started, 1e-9)

    if not console.is_terminal:
        logged = parts

        def report(count: int) -> None:
            nonlocal parts, logged, scored
            parts, scored = parts + 1, scored + count
            if (parts - logged) * LOG_LINES >= total or parts == total:
                logged = parts
                log.info(
                    "%d of %d parts, %d users, %.0f users/s", parts, total, users + scored, speed()
                )

        yield report
        return
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("parts  {task.fields[users]:,} users  {task.fields[speed]:,.0f} users/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("parts", total=total, completed=parts, users=users, speed=0.0)

        def advance(count: int) -> None:
            nonlocal scored
            scored += count
            bar.update(task, advance=1, users=users + scored, speed=speed())

        yield advance
